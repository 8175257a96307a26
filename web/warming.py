"""What a server reads as soon as it stands, so that the first who asks does not wait for it; nothing here is kept on disk."""

from collections.abc import Callable, Iterator
from functools import partial

from jinja2 import Environment

from schemas.lineage import DatasetRef
from storage.dense import columns_of
from storage.query import query
from storage.rows import rows
from storage.seek import Reader
from storage.show import show
from storage.store import Store

#: Datasets whose figures are read: the newest ones.
WARMED = 8


def first_things(store: Store, templates: Environment) -> Iterator[Callable[[], object]]:
    """One reading after the other, what is asked first before the rest; each may fail on its own."""
    for name in templates.list_templates(extensions=("html", "jinja")):
        yield partial(templates.get_template, name)
    newest = [tag.ref for tag in sorted(store.tags(), key=lambda tag: tag.created_at, reverse=True)[:WARMED]]
    for number, ref in enumerate(dict.fromkeys(newest)):
        yield partial(show, store, ref)
        yield partial(columns_of, Reader(store), ref)
        if number == 0:
            yield partial(query, store, ref, "select count(*) from members")
            yield partial(rows, store, ref, limit=1)
            yield partial(_dropped, store, ref)


def _dropped(store: Store, ref: DatasetRef) -> object:
    return rows(store, ref, fate="dropped", order="margin", limit=1)
