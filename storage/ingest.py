"""Identity of rows as they enter: content hashes, ids that survive growth, and which texts hide characters."""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import polars as pl
import pyarrow as pa

from schemas.identity import canonical_json, digest16

#: Zero-width and bidirectional controls, soft hyphen, byte order mark, tags (U+E0000): seen by a tokenizer, not a person.
HIDDEN = (
    r"[\x{00ad}\x{034f}\x{061c}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{180e}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}"
    r"\x{3164}\x{feff}\x{ffa0}\x{fff9}-\x{fffb}\x{e0000}-\x{e007f}\x{0000}]"
)


class _Sha256(Protocol):
    """What hashlib's objects can do."""

    def copy(self) -> Self: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


def content_hashes(frame: pl.DataFrame) -> pl.Series:
    """Content hash of each example, Binary of 16 bytes; needs ``messages``, may have ``tools`` and ``worse``.

    Equal to ``content_hash`` of each row. Measured: hashlib 0.75 s per million rows of 300 bytes, DuckDB's ``sha256``
    2.9 s on two threads, so polars writes the JSON and hashlib hashes it.
    """
    return _digests16("content_hash", canonical_texts(frame), hashlib.sha256())


def content_hash(
    messages: Sequence[Mapping[str, Any]], tools: str | None = None, worse: Sequence[Mapping[str, Any]] | None = None
) -> bytes:
    """The definition: first 16 bytes of the SHA-256 of ``canonical_text``."""
    return digest16(canonical_text(messages, tools, worse).encode())


def canonical_text(
    messages: Sequence[Mapping[str, Any]], tools: str | None = None, worse: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """Canonical JSON (NFC, sorted keys) of what an example says: turns, tools and the worse answer, nulls written out."""

    def plain(turns: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
        return None if turns is None else [{key: turn[key] for key in ("content", "extra", "role")} for turn in turns]

    return canonical_json({"messages": plain(messages), "tools": tools, "worse": plain(worse)})


#: Turns with their keys in order, as canonical JSON has them; casting a struct moves its fields by name.
_SORTED = pl.List(pl.Struct({"content": pl.String, "extra": pl.String, "role": pl.String}))


def canonical_texts(frame: pl.DataFrame) -> pl.Series:
    """``canonical_text`` of each row, as a String series."""
    rows = frame.select(
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in (("messages", _SORTED), ("tools", pl.String), ("worse", _SORTED))
    )
    texts = rows.select(pl.struct("messages", "tools", "worse").struct.json_encode()).to_series()
    return _normalized(texts, rows)


def _normalized(texts: pl.Series, rows: pl.DataFrame) -> pl.Series:
    r"""NFC, exactly as the definition does it. ASCII is NFC; JSON text in NFC means that its strings are.

    The reverse does not hold (a newline is written ``\n``, whose ``n`` would compose with an accent that follows), so
    a row that is not in NFC is written again from its values.
    """
    foreign = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    if not len(foreign):
        return texts
    kept = texts.gather(foreign).to_list()
    wrong = [i for i, text in zip(foreign.to_list(), kept, strict=True) if not unicodedata.is_normalized("NFC", text)]
    if not wrong:
        return texts
    fixed = [canonical_text(**row) for row in rows[wrong].iter_rows(named=True)]
    return texts.scatter(wrong, fixed)


class Ingester:
    """Gives the rows of one source their ids, batch after batch.

    An id is made of the source's name, the content hash and how many equal rows came before, so that a file that grew
    keeps the ids of the rows that did not change. Memory: 8 bytes per distinct row seen.
    """

    def __init__(self, source_name: str) -> None:
        self.source_name = source_name
        self.hidden = 0  # rows so far with invisible or bidirectional characters
        self._seen = _SeenPrefixes()
        self._repeats: dict[bytes, int] = {}

    def assign(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with ``id``, ``content_hash`` and ``source`` set; rows in order."""
        texts = canonical_texts(frame)
        hashes = _digests16("content_hash", texts, hashlib.sha256())
        names = pl.DataFrame({"hash": hashes, "occurrence": self._occurrences(hashes)}).select(
            pl.concat_str(pl.col("hash").bin.encode("hex"), pl.lit("\x1f"), pl.col("occurrence").cast(pl.String))
        )
        start = hashlib.sha256(f"ingested\x1f{self.source_name}\x1f".encode())
        ids = _digests16("id", names.to_series(), start)
        suspect = (texts.str.len_bytes() != texts.str.len_chars()) | texts.str.contains("\\u0000", literal=True)
        if suspect.any():
            self.hidden += int(text_flags(frame.filter(suspect)).sum())
        return frame.with_columns(ids, hashes, pl.lit(self.source_name).alias("source"))

    def _occurrences(self, hashes: pl.Series) -> pl.Series:
        """How many equal hashes came before each, in this batch and all earlier ones."""
        counts = np.zeros(len(hashes), dtype=np.uint32)
        prefixes = hashes.bin.slice(0, 8).bin.reinterpret(dtype=pl.UInt64, endianness="little").to_numpy()
        again, known = self._seen.add(prefixes)
        for i in again.tolist():
            content = hashes[i]
            # A prefix met in an earlier batch without a count: this content stood there once, not repeated so far.
            earlier = self._repeats.get(content, 1 if known[i] else 0)
            counts[i] = earlier
            self._repeats[content] = earlier + 1
        return pl.Series("occurrence", counts)


def _digests16(name: str, texts: pl.Series, start: _Sha256) -> pl.Series:
    """First 16 bytes of the SHA-256 of what ``start`` has taken in, followed by each text."""
    copy = start.copy
    digests: list[bytes] = []
    for data in texts.cast(pl.Binary).to_list():
        digest = copy()
        digest.update(data)
        digests.append(digest.digest())
    whole = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)[:, :16].tobytes()
    offsets = np.arange(0, 16 * len(digests) + 1, 16, dtype=np.int64)
    column = pa.Array.from_buffers(pa.large_binary(), len(digests), [None, pa.py_buffer(offsets), pa.py_buffer(whole)])
    return pl.Series(name, column, dtype=pl.Binary)


class _SeenPrefixes:
    """Which 64-bit prefixes of content hashes came before: sorted runs, merged when they grow alike.

    Two contents that share a prefix (one chance in 10^5 at ten million rows) only make an occurrence count start at 1;
    the id stays unique and repeatable, because the whole content hash is in it.
    """

    def __init__(self) -> None:
        self._runs: list[_Prefixes] = []

    def add(self, prefixes: "_Prefixes") -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Rows whose prefix occurs elsewhere, in order, and per row whether an earlier batch had it; remembers them all."""
        order = np.argsort(prefixes, kind="stable")
        ranked = prefixes[order]
        found = np.zeros(len(ranked), dtype=np.bool_)
        for run in self._runs:
            places = np.searchsorted(run, ranked)
            places[places == len(run)] = 0
            found |= run[places] == ranked
        follows = np.zeros(len(ranked), dtype=np.bool_)
        follows[1:] = ranked[1:] == ranked[:-1]
        twice = follows | np.append(follows[1:], np.False_) if len(follows) else follows
        known = np.zeros(len(ranked), dtype=np.bool_)
        known[order] = found
        if len(ranked):
            self._runs.append(ranked[~follows])
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(_merged(before, last))
        return np.sort(order[twice | found]), known


_Prefixes = np.ndarray[Any, np.dtype[np.uint64]]


def _merged(one: _Prefixes, other: _Prefixes) -> _Prefixes:
    """Two sorted runs as one, each prefix once. A stable sort of two runs is a merge."""
    both = np.sort(np.concatenate([one, other]), kind="stable")
    return both[np.append(np.True_, both[1:] != both[:-1])]


def text_flags(frame: pl.DataFrame) -> pl.Series:
    """Per row: does any turn hold an invisible or bidirectional character? The text itself is kept as it is."""
    if not frame.height:
        return pl.Series("hidden", [], dtype=pl.Boolean)
    contents = pl.col("messages").list.eval(pl.element().struct.field("content")).list.join("\n")
    texts = frame.select(contents.alias("text")).to_series()
    suspect = ((texts.str.len_bytes() != texts.str.len_chars()) | texts.str.contains("\x00", literal=True)).fill_null(
        value=False
    )
    if not suspect.any():
        return suspect.alias("hidden")
    return (suspect & texts.str.contains(HIDDEN).fill_null(value=False)).alias("hidden")
