"""From bands to clusters: who goes, whom it repeats, and through whom."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

from methods.dedup._near_pairs import meeting
from methods.dedup._repeats import gone, same_scope
from methods.texts.union_find import first_come, joined

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

    def fit(self, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
        """Which pairs may repeat each other by their sources and sizes, bool."""
        fits = same_scope(self.scope, self.sources[better], self.sources[worse])
        if self.threshold is None:
            return fits
        one, other = self.sizes[better], self.sizes[worse]
        return fits & (np.minimum(one, other) >= self.threshold * np.maximum(one, other))


Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def chosen(pairs: Iterable[tuple[np.ndarray, np.ndarray]], choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (better, worse) that the choice (bool per pair) takes, joined; chosen as they come, for memory's sake."""
    some = [(better[take], worse[take]) for better, worse in pairs for take in (choice(better, worse),)]
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *(p[0] for p in some)]), np.concatenate([nothing, *(p[1] for p in some)])


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
            groups = meeting(things.keys(band), among, REACH)
            crowded[groups.crowded()] = True
            for pairs in (groups.with_best(), groups.with_next()):  # what the best has joined needs no more comparing
                now = labels
                better, worse = chosen(pairs, lambda b, w, now=now: (now[b] != now[w]) & things.fit(b, w))
                if things.threshold is not None:
                    alike = things.similarity(better, worse) >= things.threshold
                    better, worse = better[alike], worse[alike]
                np.minimum.at(link, worse, better)
                np.minimum.at(link, better, worse)
                if len(better):
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
            groups = meeting(things.keys(band), among, REACH)
            crowded[groups.crowded()] = True
            one, other = chosen(chain(groups.with_best(), groups.with_next()), things.fit)
            pair = (one.astype(np.uint64) << np.uint64(32)) | other.astype(np.uint64)
            at = np.searchsorted(tested, pair)
            fresh = np.append(tested, ~np.uint64(0))[at] != pair
            tested = np.concatenate((tested, pair[fresh]))
            tested.sort()
            similar = things.similarity(one[fresh], other[fresh])
            alike = similar >= (things.threshold or 0.0)
            better = np.concatenate((better, one[fresh][alike]))
            worse = np.concatenate((worse, other[fresh][alike]))
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
