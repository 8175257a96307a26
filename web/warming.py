"""What a server reads as soon as it stands, so that the first who asks does not wait for it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial, wraps

from jinja2 import Environment

from schemas.errors import ProvenderError
from schemas.lineage import DatasetRef, Manifest
from storage.questions import figures
from storage.questions.dense import by_home, columns_of, facet, places
from storage.questions.diff import codes_of, diff
from storage.questions.fallen import fallen
from storage.questions.find import scope_of, tag_of
from storage.questions.neighbors import static_vectors, vectors_of
from storage.questions.query import query
from storage.questions.rows import rows
from storage.questions.show import show
from storage.reports.report import samples_of
from storage.seek import Reader, legible, role_part
from storage.store import Store

#: Datasets whose figures are read: the newest ones.
WARMED = 8
#: Members of a version of which every score is read ahead, 4 bytes each and score, and which is compared ahead.
EVERY_COLUMN = 2_000_000


def _legible(works: Callable[..., Iterator[Callable[[], object]]]) -> Callable[..., Iterator[Callable[[], object]]]:
    """Of a version that cannot be described there is no more to read; its page says why."""

    @wraps(works)
    def as_far(*given: object) -> Iterator[Callable[[], object]]:
        with suppress(ProvenderError, OSError):
            yield from works(*given)

    return as_far


@_legible
def first_things(store: Store, templates: Environment) -> Iterator[Callable[[], object]]:
    """One reading after the other, what is asked first before the rest, each short; each may fail on its own.

    Of the newest dataset everything that a page reads whole, then its version before, which it is compared with.
    """
    reader = Reader(store)
    newest = [tag.ref for tag in sorted(store.tags(), key=lambda tag: tag.created_at, reverse=True)[:WARMED]]
    for name in templates.list_templates(extensions=("html", "jinja")):
        yield partial(templates.get_template, name)
    for ref in newest[:1]:
        yield from _figures(reader, ref)
        yield partial(_of_step, _samples, reader, reader.manifest(ref))
        yield partial(rows, store, ref, limit=1)
        yield partial(query, store, ref, "select count(*) from members")
        yield from _questions(reader, ref)
        yield from _comparison(reader, ref)
    for ref in dict.fromkeys(newest[1:]):
        yield from _figures(reader, ref)
        yield partial(columns_of, reader, ref)


@_legible
def _figures(reader: Reader, ref: DatasetRef) -> Iterator[Callable[[], object]]:
    for manifest in reader.store.upstream(ref):
        yield partial(_of_step, figures.histograms, reader, manifest)
    yield partial(show, reader.store, ref)


@_legible
def _questions(reader: Reader, ref: DatasetRef) -> Iterator[Callable[[], object]]:
    yield partial(columns_of, reader, ref)
    yield from _drops(reader, reader.store.upstream(ref))
    yield partial(rows, reader.store, ref, fate="dropped", order="margin", limit=1)
    yield partial(_of_step, _vectors, reader, reader.manifest(ref))
    yield partial(_of_step, _members, reader, reader.manifest(ref))
    if reader.rows_of(ref) <= EVERY_COLUMN:
        yield from _every_column(reader, ref)


@_legible
def _every_column(reader: Reader, ref: DatasetRef) -> Iterator[Callable[[], object]]:
    """Every score of the members, and what rows are filtered by: what any order or filter reads."""
    manifest = reader.manifest(ref)
    for column in columns_of(reader, ref):
        yield partial(_of_step, lambda reader, _, column=column: by_home(reader, column, ref), reader, manifest)
    for name in ("source", "license"):
        yield partial(_of_step, lambda reader, _, name=name: facet(reader, places(reader, ref), name), reader, manifest)


def _drops(reader: Reader, manifests: list[Manifest]) -> Iterator[Callable[[], object]]:
    for manifest in manifests:
        for role, _ in manifest.step.inputs:
            if role_part(manifest, role):
                yield partial(_of_step, fallen, reader, manifest, role)


@_legible
def _comparison(reader: Reader, ref: DatasetRef) -> Iterator[Callable[[], object]]:
    """What a comparison with the version before reads, and the comparison itself."""
    older = [
        history[at - 1].ref
        for newest in reader.store.tags()
        if newest.ref == ref
        for history in [reader.store.tag_history(newest.name)]
        for at, tag in enumerate(history)
        if at and tag.ref == ref and history[at - 1].ref != ref
    ]
    for before in older[-1:]:
        yield from _figures(reader, before)
        yield from _drops(reader, reader.store.upstream(before))
        yield partial(_of_step, _members, reader, reader.manifest(before))
        yield partial(_shared, reader, before, ref)
        if reader.rows_of(ref) <= EVERY_COLUMN:
            yield partial(diff, reader.store, _named(reader, before), _named(reader, ref))


def _named(reader: Reader, ref: DatasetRef) -> str:
    return tag_of(reader, ref) or str(ref)


def _members(reader: Reader, manifest: Manifest) -> object:
    return places(reader, manifest.ref)


def _samples(reader: Reader, manifest: Manifest) -> object:
    return samples_of(reader.store, manifest.ref)


def _vectors(reader: Reader, manifest: Manifest) -> object:
    held = vectors_of(reader, manifest.ref)
    return static_vectors(reader, manifest.ref).of({"messages": [{"role": "user", "content": "any text"}]}), held


def _of_step(what: Callable[..., object], reader: Reader, manifest: Manifest, *more: str) -> object:
    with legible(str(manifest.ref)):
        return what(reader, manifest, *more)


def _shared(reader: Reader, before: DatasetRef, after: DatasetRef) -> object:
    with legible(f"ids of {before} and {after}"):
        return codes_of(reader, scope_of(reader, before), scope_of(reader, after))
