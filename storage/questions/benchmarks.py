"""Benchmarks of a store: the packs, where they were met, and the hits of one version beside the items they give away."""

from collections.abc import Mapping

from schemas.errors import StoreError
from schemas.lineage import DatasetRef
from storage.packs.reviews import Hit, count, hits, reviews, steps_behind
from storage.packs.shelf import packs
from storage.questions import figures
from storage.questions.views import Contamination, Damage, View
from storage.seek import Reader, legible
from storage.store import Store


class PackLine(View):
    """A shipped pack, or one of a person's own that a step was given."""

    name: str
    title: str
    items: int | None
    version: str
    license: str | None
    source: str
    checked: int  # decontamination steps that looked for it
    hits: int


class Met(View):
    """What one named version met on its way."""

    tag: str
    ref: str
    rows: tuple[Contamination, ...]
    hits: int
    reviewed: int
    false_alarms: int


class Benchmarks(View):
    """Packs and what was met, newest dataset first."""

    packs: tuple[PackLine, ...]
    met: tuple[Met, ...]
    damage: tuple[Damage, ...] = ()


class HitCount(View):
    """Hits of one rule on one benchmark."""

    step: str
    rule: str
    benchmark: str
    hits: int


class HitsPage(View):
    """Hits of a version, a page at a time."""

    ref: str
    counts: tuple[HitCount, ...]
    rule: str | None
    benchmark: str | None
    unreviewed: bool
    hits: tuple[Hit, ...]
    total: int  # that match, before the reviewed ones are left out
    reviewed: int
    false_alarms: int
    start: int
    next: int | None
    looked: tuple[str, ...] = ()  # benchmarks that a step behind it looked for; none: contamination is unknown


def benchmarks(store: Store) -> Benchmarks:
    """Packs with their hits over the store, and each tag's newest version with what it met."""
    reader = Reader(store)
    damage: list[Damage] = []
    checked: dict[str, int] = {}
    found: dict[str, int] = {}
    for manifest in store.versions():
        if manifest.ref.stage != "decontaminate":
            continue
        try:
            with legible(str(manifest.ref)):
                for row in figures.contamination(reader, manifest):
                    checked[row.benchmark] = checked.get(row.benchmark, 0) + 1
                    found[row.benchmark] = found.get(row.benchmark, 0) + row.hits
        except StoreError as error:
            damage.append(Damage(place=str(manifest.ref), problem=str(error)))
    shipped = packs()
    lines = [
        PackLine(
            name=name, title=info.title, items=info.items, version=str(info.version), license=info.license,
            source=info.source, checked=checked.get(name, 0), hits=found.get(name, 0),
        )
        for name, info in shipped.items()
    ]  # fmt: skip
    lines += [
        PackLine(name=name, title="", items=None, version="", license=None, source="one of your own",
                 checked=checked[name], hits=found[name])
        for name in sorted(checked)
        if name not in shipped
    ]  # fmt: skip
    return Benchmarks(packs=tuple(lines), met=_met(reader, damage), damage=tuple(damage))


def _met(reader: Reader, damage: list[Damage]) -> tuple[Met, ...]:
    met: list[Met] = []
    for tag in sorted(reader.store.tags(), key=lambda tag: tag.created_at, reverse=True):
        name = f"{tag.name}@v{tag.number}"
        try:
            with legible(name):
                behind = steps_behind(reader.store, tag.ref)
                said = reviews(reader.store, tag.ref)
                total = int(count(reader.store, tag.ref)["hits"].sum())
                met.append(
                    Met(
                        tag=name,
                        ref=str(tag.ref),
                        rows=tuple(row for m in behind for row in figures.contamination(reader, m)),
                        hits=total,
                        reviewed=len(said),
                        false_alarms=sum(review.verdict == "reject" for review in said),
                    )
                )
        except StoreError as error:
            damage.append(Damage(place=name, problem=str(error)))
    return tuple(met)


def hits_page(
    store: Store,
    ref: DatasetRef,
    *,
    rule: str | None = None,
    benchmark: str | None = None,
    unreviewed: bool = False,
    start: int = 0,
    limit: int = 10,
) -> HitsPage:
    """The hits of the decontamination steps behind a version, with the items and what people said."""
    with legible(f"the hits of {ref}"):
        counts = tuple(HitCount.model_validate(row) for row in count(store, ref).to_dicts())
        said = reviews(store, ref)
        some = hits(store, ref, rule=rule, benchmark=benchmark, unreviewed=unreviewed, offset=start, limit=limit + 1)
    total = sum(one.hits for one in counts if rule in (None, one.rule) and benchmark in (None, one.benchmark))
    return HitsPage(
        ref=str(ref),
        counts=counts,
        rule=rule,
        benchmark=benchmark,
        unreviewed=unreviewed,
        hits=tuple(some[:limit]),
        total=total,
        reviewed=len(said),
        false_alarms=sum(review.verdict == "reject" for review in said),
        start=start,
        next=start + limit if len(some) > limit else None,
        looked=tuple(sorted({name for m in steps_behind(store, ref) for name in figures.benchmarks_of(m)})),
    )


_SHOWN_APART = frozenset(("benchmark", "item", "quote", "in", "turn", "field"))


def shown_evidence(hit: Hit) -> Mapping[str, str]:
    """The plain facts of a hit's evidence, but for the spans, which are drawn."""
    plain = {key: value for key, value in hit.evidence.items() if isinstance(value, str | int | float)}
    return {str(key).replace("_", " "): str(value) for key, value in plain.items() if key not in _SHOWN_APART}
