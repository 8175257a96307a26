"""Where things lie in a store (FORMAT 1), the names of a version's parts and the columns each has.

``examples``         EXAMPLES of those created or edited in this step, row numbers run on across several objects
``members``          the version's examples in order, as (home, row); absent = all of its own examples in order
``verdicts/<role>``  row i is the fate of member i of that consumed input
``links``            parents and calls of created and edited examples; ``calls``: those calls in full
``refused``          outside rows or candidates that never became examples
``scores``           row i is the score of member i of the input with the role ``pool``, then the score's named parts
``train``, ``index`` the self-contained copy of a published version and its id → position index
``sidecar/<name>``   anything else, free in form
"""

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from schemas.errors import InvariantViolation
from schemas.examples import EXAMPLES, MESSAGES
from schemas.lineage import DatasetRef

Columns = Mapping[str, pl.DataType | type[pl.DataType]]

KEEP, REJECT, EDIT, QUARANTINE = range(4)

#: A position: which of the manifest's homes, which row of that version's own examples.
POSITION: Columns = {"home": pl.UInt16, "row": pl.UInt32}

_PARENTS = pl.List(pl.Struct(POSITION))
_CALLS = pl.List(pl.Binary)

VERDICTS: Columns = {
    "fate": pl.UInt8,  # KEEP, REJECT, EDIT, QUARANTINE
    "rule": pl.UInt16,  # 0 = none, else the rule's place in the manifest counted from 1
    "score": pl.Float32,
    "evidence": pl.String,
    "successor": pl.UInt32,  # when edited: the row of the new example among this step's own
}
LINKS: Columns = {
    "row": pl.UInt32,  # among this step's own examples
    "parents": _PARENTS,
    "calls": _CALLS,  # keys into the part `calls`
    "index": pl.UInt32,  # the how-many-th this method made from exactly these parents
    "evidence": pl.String,
}
CALLS: Columns = {
    "key": pl.Binary,
    "kind": pl.String,  # generate (also null, of older releases), or score: no request and no reply, the text is known
    "model": pl.String,
    "request": pl.String,
    "reply": pl.String,
    "finish_reason": pl.String,
    "prompt_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "cost_usd": pl.Float64,  # null = unknown, never 0 for unknown
    "attempts": pl.Int32,
    "cached": pl.Boolean,
    "failure": pl.String,
}
REFUSED: Columns = {
    "line": pl.Int64,
    "text": pl.String,
    "reason": pl.String,
    "evidence": pl.String,
    "parents": _PARENTS,
    "calls": _CALLS,
}
SCORES: Columns = {"score": pl.Float64}
TRAIN: Columns = {
    "id": pl.Binary,
    "messages": MESSAGES,
    "tools": pl.String,
    "worse": MESSAGES,
    "source": pl.String,
    "license": pl.String,
    "position": pl.UInt32,
}
INDEX: Columns = {"id": pl.Binary, "position": pl.UInt32}

_FIXED: Mapping[str, Columns] = {
    "examples": EXAMPLES,
    "members": POSITION,
    "links": LINKS,
    "calls": CALLS,
    "refused": REFUSED,
    "scores": SCORES,
    "train": TRAIN,
    "index": INDEX,
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "examples": ("id", "content_hash", "messages"),
    "members": ("home", "row"),
    "links": ("row",),
    "calls": ("key",),
    "refused": ("reason",),
    "scores": ("score",),
    "train": ("id", "messages", "position"),
    "index": ("id", "position"),
    "verdicts": ("fate", "rule"),
}
_PART = re.compile(r"(verdicts|sidecar)/[a-z0-9][a-z0-9._-]{0,63}")


def columns_of(part: str) -> Columns | None:
    """The columns of a part; None for a sidecar, whose form is free. ``InvariantViolation`` for an unknown name."""
    if part in _FIXED:
        return _FIXED[part]
    if not _PART.fullmatch(part):
        raise InvariantViolation(
            f"{part[:80]!a} is no part of a version; parts are {', '.join(_FIXED)}, verdicts/<role>, sidecar/<name>"
        )
    return VERDICTS if part.startswith("verdicts/") else None


def shaped(part: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with exactly the part's columns in order and kind; absent optional ones become null.

    ``scores`` may carry further numeric columns. Raises ``InvariantViolation`` naming the column that is wrong.
    """
    columns = columns_of(part)
    if columns is None:
        return frame
    required = _REQUIRED[part.partition("/")[0]]
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise InvariantViolation(f"part {part}: column {missing[0]!r} is missing; it has {', '.join(frame.columns)}")
    more = [name for name in frame.columns if name not in columns]
    if more and part != "scores":
        raise InvariantViolation(f"part {part}: unknown column {more[0]!r}; expected {', '.join(columns)}")
    fixed = [
        pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in columns.items()
    ]
    try:
        return frame.select(*fixed, *(pl.col(name).cast(pl.Float64) for name in more))
    except pl.exceptions.PolarsError as error:
        raise InvariantViolation(f"part {part}: {error}") from error


def empty(part: str) -> pl.DataFrame:
    """A part of no rows."""
    return pl.DataFrame(schema=dict(columns_of(part) or {}))


def manifest_path(root: Path, ref: DatasetRef) -> Path:
    """``steps/<stage>/<fingerprint>.json``; refuses what is not a ref, so that no name leads out of the store."""
    checked = DatasetRef.parse(str(ref))
    return root / "steps" / checked.stage / f"{checked.fingerprint}.json"


def tag_folder(root: Path, name: str) -> Path:
    """The folder of a tag's log; entries begin with ``@``, which no tag may, so ``a`` and ``a/b`` never collide."""
    return root.joinpath("tags", *name.split("/"))


def tag_entry(number: int) -> str:
    """``@00000003.json`` is version 3."""
    return f"@{number:08d}.json"


def shard_path(root: Path, ref: DatasetRef, shard: int) -> Path:
    """``shards/<fingerprint>/<n>.json``."""
    checked = DatasetRef.parse(str(ref))
    return root / "shards" / checked.fingerprint / f"{shard:08d}.json"
