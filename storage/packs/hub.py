"""Benchmark items from the Hugging Face hub at a pinned commit, through ``datasets``, imported only here; no remote code."""

import re

import polars as pl
from pydantic import ValidationError

from schemas.errors import UnreadableSource, UsageError
from schemas.lineage import checked_name
from schemas.sources import SourceSpec
from storage.readers.hub import load_split

#: Most items of a benchmark.
MAX_ITEMS = 2_000_000


def hub_rows(text: str) -> tuple[pl.DataFrame, str]:
    """The rows of ``hub:owner/name@commit[:config[/split]]`` as they are, and a pack's name made of the dataset's.

    The split is ``test`` where none is named. Raises ``UsageError`` for a malformed id, ``MissingSource`` if there is no
    such dataset, commit, config or split, ``UnreadableSource`` without network.
    """
    try:
        hub = SourceSpec(path=text).hub
    except ValidationError as error:
        why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"benchmark {text[:120]!a}: {why}") from None
    assert hub is not None, "the caller has seen the prefix hub:"
    offline = "go online once, or put it into a file and run `provender benchmarks add FILE` on a machine that has it"
    found = load_split(hub, hub.split or "test", f"benchmark {text}", offline)
    if found.num_rows > MAX_ITEMS:
        raise UnreadableSource(f"benchmark {text} has {found.num_rows:,} rows; a benchmark has at most {MAX_ITEMS:,}")
    frame = pl.DataFrame(found.with_format("arrow")[:])
    name = re.sub(r"[^a-z0-9._-]+", "-", hub.name.lower()).strip("-.") or "hub"
    return frame, checked_name(name, f"benchmark {text}: its name")
