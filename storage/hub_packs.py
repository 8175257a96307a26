"""Benchmark items from the Hugging Face hub at a pinned commit, through ``datasets``, imported only here; no remote code."""

import re
from typing import Any

import polars as pl
from pydantic import ValidationError

from schemas.errors import MissingSource, UnreadableSource, UsageError
from schemas.lineage import checked_name
from schemas.sources import SourceSpec

#: Most items of a benchmark.
MAX_ITEMS = 2_000_000


def hub_rows(text: str) -> tuple[pl.DataFrame, str]:
    """The rows of ``hub:owner/name@commit[:config[/split]]`` as they are, and a pack's name made of the dataset's.

    The split is ``test`` where none is named. Raises ``UsageError`` for a malformed id, ``MissingSource`` if there is no
    such dataset, commit, config or split, ``UnreadableSource`` without network.
    """
    import datasets
    import datasets.exceptions

    try:
        hub = SourceSpec(path=text).hub
    except ValidationError as error:
        why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError(f"benchmark {text[:120]!a}: {why}") from None
    assert hub is not None, "the caller has seen the prefix hub:"
    datasets.disable_progress_bars()
    split = hub.split or "test"
    try:
        found: Any = datasets.load_dataset(hub.repo, hub.config, split=split, revision=hub.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise MissingSource(f"benchmark {text} is not on the hub, or not for you to see: {_short(error)}") from error
    except (ConnectionError, OSError) as error:
        raise UnreadableSource(
            f"benchmark {text} cannot be fetched ({_short(error)}); go online once, or put it into a file and run "
            "`provender benchmarks add FILE` on a machine that has it"
        ) from error
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise MissingSource(f"benchmark {text} has no split {split!r} that can be read: {_short(error)}") from error
    if found.num_rows > MAX_ITEMS:
        raise UnreadableSource(f"benchmark {text} has {found.num_rows:,} rows; a benchmark has at most {MAX_ITEMS:,}")
    frame = pl.DataFrame(found.with_format("arrow")[:])
    name = re.sub(r"[^a-z0-9._-]+", "-", hub.name.lower()).strip("-.") or "hub"
    return frame, checked_name(name, f"benchmark {text}: its name")


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
