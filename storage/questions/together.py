"""What several examples' stories read, read together: one pass over a step for all of them instead of one for each.

Nothing is answered here. Afterwards ``trace.fate`` finds the positions and verdicts that it asks for in the reader.
"""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import polars as pl

from schemas.errors import MissingDataset, StoreError
from schemas.lineage import DatasetRef, Manifest
from storage.questions.find import Place, Scope
from storage.questions.kin import link_of
from storage.seek import Reader, role_part

#: Steps read at the same time.
THREADS = min(4, os.cpu_count() or 1)
#: What keeps a step from being read; the row whose story it is says so.
_UNREADABLE = (StoreError, MissingDataset, OSError, pl.exceptions.PolarsError)


def read_together(reader: Reader, scope: Scope, places: Sequence[Place]) -> None:
    """Positions and verdicts of these examples in every step of a lineage, and of what they were edited from and into."""
    wanted: set[tuple[DatasetRef, int]] = set()
    for place in places:
        reader.once((place.home, "id", place.row), lambda id_=place.id: id_)
        wanted.add((place.home, place.row))
        with suppress(*_UNREADABLE):
            wanted |= set(_before(reader, place.home, place.row))
    known: set[tuple[DatasetRef, int]] = set()
    with ThreadPoolExecutor(THREADS) as pool:  # what is read is small, and each reading keeps one core busy
        while new := wanted - known:
            known |= new
            list(pool.map(lambda manifest: _located(reader, manifest, new), scope.manifests))
            for became in pool.map(lambda manifest: _judged(reader, manifest, new), scope.manifests):
                wanted |= became


def _located(reader: Reader, manifest: Manifest, places: Collection[tuple[DatasetRef, int]]) -> None:
    with suppress(*_UNREADABLE):
        reader.locate(manifest.ref, list(places))


def _judged(
    reader: Reader, manifest: Manifest, places: Collection[tuple[DatasetRef, int]]
) -> set[tuple[DatasetRef, int]]:
    """Reads what the step said about the members of its inputs; returns what it edited them into."""
    became: set[tuple[DatasetRef, int]] = set()
    with suppress(*_UNREADABLE):
        for role, origin in manifest.step.inputs:
            part = role_part(manifest, role)
            if part is None and not (role == "pool" and "scores" in manifest.parts):
                continue
            positions = [at[0] for place in places if (at := reader.positions_of(origin, *place))]
            reader.read_rows(manifest.ref, part or "scores", positions)
            for at in positions if part else ():
                stored = reader.row(manifest.ref, part or "", at) or {}
                if stored.get("successor") is not None:
                    became.add((manifest.ref, int(stored["successor"])))
    return became


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
