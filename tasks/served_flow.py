"""Prefect's `flow`, whose runs find a guarded Prefect server where none is known: on the command line, in a script, a notebook."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect.flows import Flow

from tasks.own_server import served

P = ParamSpec("P")
R = TypeVar("R")


def flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """As ``prefect.flow`` with these options."""

    def made(work: Callable[P, R]) -> Flow[P, R]:
        return _ServedFlow(work, **options)

    return made


class _ServedFlow(Flow[P, R]):
    """A flow that is called, not one that a worker runs: a worker has its server."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with served():
            return super().__call__(*args, **kwargs)

    def with_options(self, **options: Any) -> Flow[P, R]:  # pyright: ignore[reportIncompatibleMethodOverride]
        changed = super().with_options(**options)
        changed.__class__ = type(self)  # Prefect makes a plain one
        return changed
