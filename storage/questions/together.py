"""What several examples' stories read, read together: one pass over a step for all of them instead of one for each.

Nothing is answered here. Afterwards ``trace.fate`` finds the positions and verdicts that it asks for in the reader.
"""

from collections.abc import Sequence
from contextlib import suppress

import polars as pl

from schemas.errors import MissingDataset, StoreError
from schemas.lineage import DatasetRef
from storage.layout import KEEP
from storage.questions.find import Scope
from storage.questions.kin import link_of
from storage.seek import Reader, role_part

#: What keeps a step from being read; the row whose story it is says so.
_UNREADABLE = (StoreError, MissingDataset, OSError, pl.exceptions.PolarsError)


def read_together(reader: Reader, scope: Scope, places: Sequence[tuple[DatasetRef, int]]) -> None:
    """Positions and verdicts of these examples (home and row) in every step of a lineage, and of what they were edited
    from and into.
    """
    wanted = dict.fromkeys(places)
    for place in places:
        with suppress(*_UNREADABLE):
            wanted |= dict.fromkeys(_before(reader, *place))
    gone: set[tuple[DatasetRef, int]] = set()  # dropped by a step: what later ones say of it is rarely asked
    for manifest in scope.manifests:
        with suppress(*_UNREADABLE):
            there = [place for place in wanted if place not in gone or place[0] == manifest.ref]
            reader.locate(manifest.ref, there)
            for role, origin in manifest.step.inputs:
                part = role_part(manifest, role)
                if part is None and not (role == "pool" and "scores" in manifest.parts):
                    continue
                by_position = {at[0]: place for place in there if (at := reader.positions_of(origin, *place))}
                reader.read_rows(manifest.ref, part or "scores", by_position)
                for at, place in by_position.items() if part else ():
                    stored = reader.row(manifest.ref, part or "", at) or {}
                    if stored.get("successor") is not None:
                        wanted[manifest.ref, int(stored["successor"])] = None
                    if stored.get("fate") != KEEP:
                        gone.add(place)


def _before(reader: Reader, home: DatasetRef, row: int) -> list[tuple[DatasetRef, int]]:
    """What an example was edited from, the nearest first."""
    found: list[tuple[DatasetRef, int]] = []
    while len(found) < 50 and any(inputs.edited for inputs in reader.manifest(home).counts.inputs):
        link = link_of(reader, home, row)
        if link is None or len(link.parents) != 1:
            break
        home, row = link.parents[0]
        found.append((home, row))
    return found
