"""Ad-hoc work on any file or stored dataset: take it in, run one stage, name what came out."""

import re
from collections.abc import Iterable
from pathlib import Path

from schemas.errors import BadName, MissingDataset, MissingSource
from schemas.lineage import DatasetRef, checked_name
from schemas.recipe import BackendChoices, Budget
from schemas.sources import SourceSpec
from storage.runs import new_run_id
from storage.store import Store
from tasks.bench import Bench, open_store
from tasks.events import Event, emit
from tasks.ingest import ingest


def adhoc_bench(store: Path, backends: BackendChoices, rng_seed: int = 0, run_id: str | None = None) -> Bench:
    """A bench without a recipe."""
    return Bench(store=store, run_id=run_id or new_run_id(), rng_seed=rng_seed, backends=backends, budget=Budget())


def taken_in(text: str, bench: Bench, source: SourceSpec | None = None) -> DatasetRef:
    """A tag, a ref, or a file or folder (which is ingested under its own name) as a ref."""
    path = Path(text)
    if source is None and not path.exists() and not text.startswith("hub:"):
        return _stored(text, open_store(bench))
    return ingest(source_name(path), source or SourceSpec(path=text), bench)


def must_be_there(inputs: Iterable[str], store: Path, tag: str | None = None) -> None:
    """Raises what ``taken_in`` and ``named`` would, before a server is started or a step has run for a tag in vain."""
    if tag:
        checked_name(tag)
    for text in inputs:
        if not text.startswith("hub:") and not Path(text).exists():
            _stored(text, Store.open(store, create=False))


def _stored(text: str, store: Store) -> DatasetRef:
    """The dataset of that tag or ref; ``MissingSource`` if there is none, since the text is no file either."""
    try:
        return store.resolve(text)
    except BadName as error:
        if "@" in text:  # too few digits, or those of several
            raise BadName(f"{error}; and there is no file {text!r}") from None
        raise MissingSource(f"there is no file or folder {text!r}, and a dataset cannot have that name") from None
    except MissingDataset as error:
        raise MissingSource(f"{error}; and there is no file {text!r}") from None


def source_name(path: Path) -> str:
    """A source name made from a file's name: ``My Data.jsonl`` is ``my-data``."""
    return re.sub(r"[^a-z0-9]+", "-", path.name.split(".")[0].lower()).strip("-") or "source"


def named(ref: DatasetRef, tag: str | None, bench: Bench) -> str:
    """The ref as text, tagged if a name was given."""
    if tag:
        version = open_store(bench).tag(tag, ref, run_id=bench.run_id)
        emit(Event("note", ref.stage, f"{tag}@v{version.number}", str(ref), note=f"is {ref}"))
    return str(ref)
