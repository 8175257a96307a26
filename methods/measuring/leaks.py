"""Known leaks, planted: does a decontamination rule find them? A self-test of the product on the user's own benchmarks.

Each kind hides an item as real leaks are hidden; the last four are beyond any n-gram rule or change what is asked, and
say so in ``should_be_found``. Rephrasings of items may be planted besides. Of benchmarks written from templates, part
of an item (``prefix``, ``suffix``, and words replaced: ``partial``) may be nothing but the template: it gives no item
away, and a rule that passes it over is right.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from methods.keyed import mix64
from methods.stats import Interval, wilson
from methods.texts.ngrams import word_stream
from schemas.examples import MESSAGES, turns
from schemas.identity import digest16
from schemas.method import DecontaminateMethod, Using


@dataclass(frozen=True)
class Leak:
    """One way to hide an item: ``make(text, dice)`` with ``dice`` a generator that belongs to item and kind."""

    says: str
    make: Callable[[str, np.random.Generator], str]
    should_be_found: bool = True
    partial: bool = False  # not the whole item: what is left may be nothing but a template
    min_words: int = 16  # of items that are long enough for what remains to be more than a common phrase


@dataclass(frozen=True)
class Recall:
    """How many planted leaks of a kind were found, with the interval of the share."""

    kind: str
    planted: int
    caught: int
    recall: Interval
    should_be_found: bool


#: The kind of planted leaks that somebody else wrote: real rephrasings of items.
REPHRASED = "rephrased"


def plant(
    items: pl.DataFrame, rng_seed: int, hosts: pl.Series | None = None, rephrased: pl.DataFrame | None = None
) -> pl.DataFrame:
    """One leak of every kind for each item that is long enough for it.

    Columns ``kind``, ``item`` and EXAMPLES' ``id`` and ``messages``: the leak as a user turn, a neutral sentence as the
    assistant's; or, with ``hosts`` (conversations of the user's own), in the place of the first user turn of one of them,
    in its middle for ``embedded``. ``rephrased`` (``item``, ``text``) are planted as they are. The same for an item
    whatever stands beside it.
    """
    words = word_stream(items["prompt"]).lengths
    said = hosts.drop_nulls().to_list() if hosts is not None else []
    rows: list[dict[str, object]] = []

    def add(kind: str, item: str, text: str, key: bytes) -> None:
        host = said[int.from_bytes(key[8:], "little") % len(said)] if said else None
        rows.append({"kind": kind, "item": item, "id": key, "messages": _conversation(text, host, kind == "embedded")})

    for item, prompt, size in zip(items["item"], items["prompt"], words, strict=True):
        for kind, leak in KINDS.items():
            if size < leak.min_words:
                continue
            key = digest16(f"leak\x1f{kind}\x1f{item}\x1f{prompt}".encode())
            seed = mix64(np.array([rng_seed % 2**64], dtype=np.uint64) ^ np.frombuffer(key[:8], dtype=np.uint64))
            in_host = kind == "embedded" and bool(said)
            make = KINDS["verbatim"].make if in_host else leak.make
            add(kind, str(item), make(str(prompt), np.random.default_rng(int(seed[0]))), key)
    if rephrased is not None:
        for item, text in rephrased.join(items, on="item", how="semi").select("item", "text").iter_rows():
            add(REPHRASED, item, text, digest16(f"leak\x1f{REPHRASED}\x1f{item}\x1f{text}".encode()))
    return pl.DataFrame(rows, {"kind": pl.String, "item": pl.String, "id": pl.Binary, "messages": MESSAGES})


def _conversation(text: str, host: list[dict[str, str | None]] | None, inside: bool) -> list[dict[str, str | None]]:
    """A conversation that holds the leak: one of its own, or the host's with its first user turn replaced or broken up."""
    if host is None:
        return turns(("user", text), ("assistant", "I will think about it."))
    at = next((i for i, turn in enumerate(host) if turn["role"] == "user"), None)
    if at is None:
        return [*turns(("user", text)), *host]
    own = host[at]["content"] or ""
    middle = len(own) // 2
    leak = f"{own[:middle]}\n\n{text}\n\n{own[middle:]}" if inside else text
    return [*host[:at], {**host[at], "content": leak}, *host[at + 1 :]]


def recall_per_kind(
    method: DecontaminateMethod,
    benchmarks: Mapping[str, pl.DataFrame],
    *,
    using: Using,
    rng: np.random.Generator,
    rng_seed: int = 0,
    max_items: int = 200,
    hosts: pl.Series | None = None,
    rephrased: pl.DataFrame | None = None,
) -> list[Recall]:
    """Plants leaks of up to ``max_items`` items per benchmark, judges them, and counts. One entry per kind, in order.

    With ``rephrased`` (``benchmark``, ``item``, ``text``) there is one more kind, of all items that have a rephrasing. A
    method that looks at a pool as a whole sees one kind at a time, so that the leaks do not crowd each other out.
    """
    found: dict[str, list[bool]] = {kind: [] for kind in KINDS} | ({} if rephrased is None else {REPHRASED: []})
    for name, items in sorted(benchmarks.items()):
        planted = plant(_some(items, max_items, rng_seed), rng_seed, hosts)
        if rephrased is not None:
            texts = rephrased.filter(benchmark=name)
            planted = pl.concat([planted, _rephrased(items, texts, rng_seed, hosts)])
        for group in [planted] if method.per_example else planted.partition_by("kind", maintain_order=True):
            if group.height:
                fate = method.judge(_as_examples(group), {name: items}, using=using, rng=rng).select("id", "fate")
                for kind, verdict in group.join(fate, on="id", how="left").select("kind", "fate").iter_rows():
                    found[kind].append(verdict == "reject")
    return [
        Recall(kind, len(hits), sum(hits), wilson(sum(hits), len(hits)), kind in KINDS and KINDS[kind].should_be_found)
        for kind, hits in found.items()
    ]


def _rephrased(items: pl.DataFrame, texts: pl.DataFrame, rng_seed: int, hosts: pl.Series | None) -> pl.DataFrame:
    """Only the rephrasings of these items, planted."""
    held = items.join(texts, on="item", how="semi")
    return plant(held, rng_seed, hosts, texts).filter(pl.col("kind") == REPHRASED)


def _some(items: pl.DataFrame, count: int, rng_seed: int) -> pl.DataFrame:
    """Up to ``count`` items, by a hash of their text, so that their order does not matter."""
    key = [digest16(f"{rng_seed}\x1f{prompt}".encode()) for prompt in items["prompt"]]
    return items.with_columns(pl.Series("key", key, dtype=pl.Binary)).sort("key").head(count).drop("key")


def _as_examples(planted: pl.DataFrame) -> pl.DataFrame:
    return planted.select(
        "id",
        pl.col("id").alias("content_hash"),
        pl.lit("planted").alias("source"),
        "messages",
        pl.lit(None, pl.String).alias("tools"),
        pl.lit(None, MESSAGES).alias("worse"),
        pl.lit(None, pl.String).alias("license"),
        pl.lit(0, pl.UInt8).alias("synthetic_depth"),
        pl.lit(None, pl.String).alias("extra"),
    )


def _embedded(text: str, dice: np.random.Generator) -> str:
    before = " ".join(dice.choice(_FILLER, 30))
    return f"Here is something I was asked yesterday. {before}.\n\n{text}\n\nPlease help with it. {before[::-1]}."


def _part(share: float, *, end: bool) -> Callable[[str, np.random.Generator], str]:
    """The first or last ``share`` of the words (25 of 40 is .625), cut from the raw text."""

    def make(text: str, dice: np.random.Generator) -> str:
        stream = word_stream(pl.Series([text]))
        count = max(1, int(np.ceil(share * len(stream.hashes))))
        return text[int(stream.start[-count]) :] if end else text[: int(stream.end[count - 1])]

    return make


def _every(step: int) -> Callable[[str, np.random.Generator], str]:
    """Every ``step``-th word replaced, from the step-th on."""

    def make(text: str, dice: np.random.Generator) -> str:
        stream = word_stream(pl.Series([text]))
        pieces, at = [], 0
        for word in range(step - 1, len(stream.hashes), step):
            pieces += [text[at : int(stream.start[word])], str(dice.choice(_FILLER)) + "x"]
            at = int(stream.end[word])
        return "".join([*pieces, text[at:]])

    return make


def _accented(text: str, dice: np.random.Generator) -> str:
    return unicodedata.normalize("NFC", re.sub("[aeiou]", lambda m: m[0] + "\u0301", text))


def _spaced(text: str, dice: np.random.Generator) -> str:
    return re.sub(r" ", lambda m: str(dice.choice(["\u00a0", "  ", "\n", "\t ", "\u2003"])), text)


def _fullwidth(text: str, dice: np.random.Generator) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _lookalike(text: str, dice: np.random.Generator) -> str:
    return text.translate(str.maketrans("aceopxyiAEOPCTHK", "асеорхуіАЕОРСТНК"))


def _zero_width(text: str, dice: np.random.Generator) -> str:
    return re.sub(r"(?<=\w)(?=\w)", lambda m: str(dice.choice(["\u200b", "\u200d", "\u00ad", "\u2060", ""])), text)


def _tagged(text: str, dice: np.random.Generator) -> str:
    return text.replace(" ", "\u00a0").replace("e", "e\U000e0065")


def _other_numbers(text: str, dice: np.random.Generator) -> str:
    return re.sub(r"\d+", lambda m: str(int(dice.integers(2, 90)) + int(m[0]) % 7 + 91), text)


def _shuffled_lines(text: str, dice: np.random.Generator) -> str:
    """Sentences (or options on lines of their own) in another order."""
    parts = [p for p in re.split(r"(?<=[.!?])\s+|\n+", text) if p.strip()]
    return "\n".join(str(part) for part in dice.permutation(np.array(parts, dtype=object)))


def _scrambled(text: str, dice: np.random.Generator) -> str:
    return " ".join(str(word) for word in dice.permutation(np.array(text.split(), dtype=object)))


_FILLER = "alder birch cedar elm fir hazel juniper larch maple oak pine rowan spruce willow yew".split()  # noqa: SIM905

KINDS: Mapping[str, Leak] = {
    "verbatim": Leak("the item as it is", lambda text, dice: text),
    "embedded": Leak("in the middle of a longer turn", _embedded),
    "prefix": Leak("the first five eighths of its words", _part(0.625, end=False), partial=True, min_words=21),
    "suffix": Leak("the last five eighths of its words", _part(0.625, end=True), partial=True, min_words=21),
    "case": Leak("in capitals", lambda text, dice: text.upper()),
    "diacritics": Leak("with accents on its vowels", _accented),
    "whitespace": Leak("with other kinds and amounts of white space", _spaced),
    "fullwidth": Leak("in full-width letters", _fullwidth),
    "lookalikes": Leak("with Cyrillic letters that look Latin", _lookalike),
    "zero-width": Leak("with invisible characters inside its words", _zero_width),
    "tags": Leak("with no-break spaces and invisible tags", _tagged),
    "every-9th-word": Leak("with every ninth word replaced", _every(9), partial=True, min_words=17),
    "every-8th-word": Leak("with every eighth word replaced: no run of eight is left", _every(8), False),
    "numbers": Leak("with other numbers", _other_numbers, False),
    "sentences-shuffled": Leak("with its sentences or options in another order", _shuffled_lines, False),
    "words-shuffled": Leak("with its words in another order", _scrambled, False),
}
