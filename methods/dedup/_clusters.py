"""From bands to clusters: who goes, whom it repeats, and through whom."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from methods.dedup._near_pairs import Meeting, meeting
from methods.dedup._repeats import gone, same_scope
from methods.union_find import first_come, joined

#: In a band's group, how many of the members after it each one is compared with, beside the best.
REACH = 16

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Things:
    """What is clustered: sets numbered best first, their ``sizes`` and ``sources``, and the ``keys`` of each band."""

    sizes: np.ndarray
    sources: np.ndarray
    bands: int
    keys: Callable[[int], np.ndarray]
    similarity: Similarity
    scope: str
    threshold: float | None  # None: sharing a band is enough

    def pairs(self, band: int, among: np.ndarray | None) -> Meeting:
        """Pairs of the band that may repeat each other by their sources and sizes."""
        found = meeting(self.keys(band), among, REACH)
        fits = same_scope(self.scope, self.sources[found.better], self.sources[found.worse])
        if self.threshold is not None:
            one, other = self.sizes[found.better], self.sizes[found.worse]
            possible = np.minimum(one, other) >= self.threshold * np.maximum(one, other)
            fits = possible if fits is None else fits & possible
        return found if fits is None else Meeting(found.better[fits], found.worse[fits], found.crowded)


@dataclass(frozen=True)
class Cluster:
    """Per thing: ``home``, whom it repeats (itself where it stays), and ``link``, the best it is alike with (or itself)."""

    home: np.ndarray
    link: np.ndarray


def connected(things: Things, progress: Callable[[int], None]) -> Cluster:
    """Components of the graph of pairs at or above the threshold; the best of each stays.

    Groups too crowded for all pairs are gone through again with those that stay, until nothing more joins: so a second
    pass over what stays changes nothing.
    """
    count = len(things.sizes)
    labels, link = np.arange(count), np.full(count, count)
    among: np.ndarray | None = None
    while True:
        crowded = np.zeros(count, dtype=bool)
        before = labels
        for band in range(things.bands):
            found = things.pairs(band, among)
            crowded[found.crowded] = True
            apart = labels[found.better] != labels[found.worse]
            better, worse = found.better[apart], found.worse[apart]
            if things.threshold is not None:
                alike = things.similarity(better, worse) >= things.threshold
                better, worse = better[alike], worse[alike]
            np.minimum.at(link, worse, better)
            np.minimum.at(link, worse, better)
            np.minimum.at(link, better, worse)
            labels = joined(labels, better, worse)
            if among is None:
                progress(band + 1)
        goes = gone(labels, things.sources, things.scope)
        among = crowded & ~goes
        if np.array_equal(labels, before) or np.count_nonzero(among) < 2:
            itself = np.arange(count)
            return Cluster(np.where(goes, labels, itself), np.where(link == count, itself, link))


def greedy(things: Things, progress: Callable[[int], None]) -> Cluster:
    """Best first, each goes that is alike with a better one that stays; it repeats the one it is most alike with."""
    count = len(things.sizes)
    tested = np.empty(0, dtype=np.uint64)
    better, worse, near = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0)
    among: np.ndarray | None = None
    while True:
        crowded = np.zeros(count, dtype=bool)
        before = len(better)
        for band in range(things.bands):
            found = things.pairs(band, among)
            crowded[found.crowded] = True
            pair = (found.better.astype(np.uint64) << np.uint64(32)) | found.worse.astype(np.uint64)
            fresh = ~np.isin(pair, tested)
            tested = np.union1d(tested, pair[fresh])
            similar = things.similarity(found.better[fresh], found.worse[fresh])
            alike = similar >= (things.threshold or 0.0)
            better = np.concatenate((better, found.better[fresh][alike]))
            worse = np.concatenate((worse, found.worse[fresh][alike]))
            near = np.concatenate((near, similar[alike]))
            if among is None:
                progress(band + 1)
        stays = first_come(count, better, worse)
        among = crowded & stays
        if len(better) == before or np.count_nonzero(among) < 2:
            break
    home = np.arange(count)
    held = stays[better] & ~stays[worse]
    order = np.lexsort((-better[held], near[held]))  # the last one written wins: most alike, then best
    home[worse[held][order]] = better[held][order]
    return Cluster(home, home)
