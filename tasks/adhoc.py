"""Ad-hoc work on any file or stored dataset: take it in, run one stage, name what came out."""

import re
from pathlib import Path

from schemas.errors import BadName, MissingSource, StoreError
from schemas.lineage import DatasetRef
from schemas.recipe import BackendChoices, Budget
from schemas.sources import SourceSpec
from storage.runs import new_run_id
from tasks.bench import Bench, open_store
from tasks.events import Event, emit
from tasks.ingest import ingest


def adhoc_bench(store: Path, backends: BackendChoices, rng_seed: int = 0, run_id: str | None = None) -> Bench:
    """A bench without a recipe."""
    return Bench(store=store, run_id=run_id or new_run_id(), rng_seed=rng_seed, backends=backends, budget=Budget())


def taken_in(text: str, bench: Bench, source: SourceSpec | None = None) -> DatasetRef:
    """A tag, a ref, or a file or folder (which is ingested under its own name) as a ref."""
    store = open_store(bench)
    path = Path(text)
    if source is None and not path.exists() and not text.startswith("hub:"):
        try:
            return store.resolve(text)
        except BadName:
            raise MissingSource(f"there is no file or folder {text!r}, and a dataset cannot have that name") from None
        except StoreError as error:
            raise MissingSource(f"{error}; and there is no file {text!r}") from None
    return ingest(source_name(path), source or SourceSpec(path=text), bench)


def source_name(path: Path) -> str:
    """A source name made from a file's name: ``My Data.jsonl`` is ``my-data``."""
    return re.sub(r"[^a-z0-9]+", "-", path.name.split(".")[0].lower()).strip("-") or "source"


def named(ref: DatasetRef, tag: str | None, bench: Bench) -> str:
    """The ref as text, tagged if a name was given."""
    if tag:
        version = open_store(bench).tag(tag, ref, run_id=bench.run_id)
        emit(Event("note", ref.stage, f"{tag}@v{version.number}", str(ref), note=f"is {ref}"))
    return str(ref)
