"""Datasets from the Hugging Face hub at a pinned commit, through ``datasets``, imported only here; no remote code runs."""

from collections.abc import Iterator
from typing import Any

from schemas.errors import MissingSource, UnreadableSource
from schemas.sources import HubId, SourceSpec
from storage.readers.piece import Piece
from storage.readers.tables import pieces


def read_hub(hub: HubId, spec: SourceSpec) -> Iterator[Piece]:
    """The examples of one split of a hub dataset.

    Raises ``MissingSource`` if there is no such dataset, revision, config or split, ``UnreadableSource`` without network.
    """
    named, offline = str(spec.path), "go online once (it is cached then), or download it and give the path"
    found = load_split(hub, spec.split or hub.split or "train", named, offline)
    tables: Iterator[Any] = iter(found.with_format("arrow").iter(batch_size=20_000))
    yield from pieces((batch for table in tables for batch in table.to_batches()), spec, spec.path, 0)


def load_split(hub: HubId, split: str, named: str, offline: str) -> Any:
    """One split of a hub dataset at its pinned commit. ``named`` and ``offline`` are for the messages: what, and the way out.

    Raises ``MissingSource`` if there is no such dataset, revision, config or split, ``UnreadableSource`` without network.
    """
    import datasets
    import datasets.exceptions

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(hub.repo, hub.config, split=split, revision=hub.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise MissingSource(f"{named} is not on the hub, or not for you to see: {_short(error)}") from error
    except (ConnectionError, OSError) as error:
        raise UnreadableSource(f"{named} cannot be fetched ({_short(error)}); {offline}") from error
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise MissingSource(
            f"{named} has no split {split!r} that can be read without running its code: {_short(error)}"
        ) from error


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
