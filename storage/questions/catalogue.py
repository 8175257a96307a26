"""Which datasets does a store hold? One line per tag, or per version, from manifests alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import StoreError
from schemas.lineage import GateStatus, Manifest, TagVersion
from storage.questions.figures import size_of
from storage.questions.show import gate_of, tokens_of, words_of
from storage.questions.views import Damage, View
from storage.questions.words import method_words
from storage.store import Store


class CatalogueRow(View):
    """A dataset as one line. ``history`` holds the sizes of the tag's versions, oldest first, None for a damaged one."""

    name: str  # the tag, or the ref of a version without one
    tag: str | None  # name@vN
    ref: str
    stage: str
    says: str
    rows: int | None
    size_bytes: int | None
    sources: tuple[str, ...]
    gate: GateStatus
    made_at: str | None
    versions: int
    history: tuple[int | None, ...] = ()
    problem: str | None = None
    run_id: str | None = None  # of the run that made it
    words: int | None = None  # of prompts and answers, where the version counted them
    tokens: int | None = None  # of all turns, estimated, where the version counted them
    synthetic_fraction: float | None = None  # of its rows that a model wrote, where the version counted them


class Catalogue(View):
    """Newest first."""

    rows: tuple[CatalogueRow, ...]
    versions: int  # all versions of the store, tagged or not
    damage: tuple[Damage, ...] = ()


def catalogue(store: Store, *, every_version: bool = False) -> Catalogue:
    """Each tag's newest version; with ``every_version`` each version of the store, tagged or not."""
    manifests = {manifest.ref: manifest for manifest in store.versions()}
    damage: list[Damage] = []
    histories: dict[str, list[TagVersion]] = {}
    for newest in store.tags():
        try:
            histories[newest.name] = store.tag_history(newest.name)
        except StoreError as error:
            damage.append(Damage(place=f"tag {newest.name}", problem=str(error)))
            histories[newest.name] = [newest]
    rows: list[CatalogueRow] = []
    if every_version:
        names: dict[str, str] = {}
        for history in histories.values():
            names.update({str(tag.ref): f"{tag.name}@v{tag.number}" for tag in history})
        rows = [_row(m, names.get(str(m.ref)), (), 1) for m in manifests.values()]
    else:
        for name, history in histories.items():
            tag = history[-1]
            sizes = tuple(manifests[t.ref].counts.rows_out if t.ref in manifests else None for t in history)
            if tag.ref in manifests:
                made = _row(manifests[tag.ref], f"{name}@v{tag.number}", sizes, len(history))
                rows.append(made.model_copy(update={"name": name, "made_at": tag.created_at}))
            else:
                rows.append(_lost(tag, sizes))
    rows.sort(key=lambda row: row.made_at or "", reverse=True)
    return Catalogue(rows=tuple(rows), versions=len(manifests), damage=tuple(damage))


def _row(manifest: Manifest, tag: str | None, sizes: tuple[int | None, ...], versions: int) -> CatalogueRow:
    stored = manifest.summary.get("composition")
    table = stored if isinstance(stored, list) else []
    made = manifest.run.get("started_at") or manifest.run.get("committed_at")
    return CatalogueRow(
        name=tag or str(manifest.ref),
        tag=tag,
        ref=str(manifest.ref),
        stage=manifest.ref.stage,
        says=method_words(manifest),
        rows=manifest.counts.rows_out,
        size_bytes=size_of(manifest),
        sources=tuple(dict.fromkeys(str(row.get("source", "")) for row in table)),
        gate=gate_of(manifest, [manifest])[0],
        made_at=str(made) if made else None,
        versions=versions,
        history=sizes,
        run_id=str(manifest.run["run_id"]) if manifest.run.get("run_id") else None,
        words=words_of(manifest),
        tokens=tokens_of(manifest),
        synthetic_fraction=_synthetic(table),
    )


def _synthetic(table: Sequence[Any]) -> float | None:
    rows = [(int(row["rows"]), int(row.get("synthetic_depth") or 0)) for row in table if isinstance(row, Mapping)]
    whole = sum(count for count, _ in rows)
    return sum(count for count, depth in rows if depth) / whole if whole else None


def _lost(tag: TagVersion, sizes: tuple[int | None, ...]) -> CatalogueRow:
    return CatalogueRow(
        name=tag.name,
        tag=f"{tag.name}@v{tag.number}",
        ref=str(tag.ref),
        stage=tag.ref.stage,
        says="",
        rows=None,
        size_bytes=None,
        sources=(),
        gate="unchecked",
        made_at=tag.created_at,
        versions=tag.number,
        history=sizes,
        problem=f"{tag.ref} is not in the store or cannot be read; run `provender verify`",
    )
