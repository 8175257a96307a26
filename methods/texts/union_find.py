"""Groups of things that are linked: connected components by vectorised union-find, and greedy choice among linked things."""

import numpy as np


def joined(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The components after linking ``one[i]`` with ``other[i]``.

    ``labels`` gives each thing the least number of its component (``arange(n)`` to begin with), shape (n,); so does the
    result. Each round hooks the greater of two roots onto the lesser and shortens all paths; rounds are few.
    """
    root = labels.copy()
    one, other = root[one], root[other]
    while True:
        apart = one != other
        if not apart.any():
            return root
        low, high = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        np.minimum.at(root, high, low)
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter
        one, other = root[low], root[high]


def first_come(count: int, better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """Who stays when things come in order and one goes if it is linked to an earlier one that stays; bool, shape (count,).

    Links as pairs with ``better < worse``. The same as the loop over all things, done in rounds: a thing is settled once
    an earlier linked one is known to stay, or all are known to go.
    """
    stays = np.ones(count, dtype=bool)
    open_ = np.zeros(count, dtype=bool)
    open_[worse] = True
    while len(worse):
        gone = worse[~open_[better] & stays[better]]
        stays[gone] = False
        open_[gone] = False
        unsettled = open_[worse] & (open_[better] | stays[better])
        better, worse = better[unsettled], worse[unsettled]
        waiting = np.zeros(count, dtype=bool)
        waiting[worse] = True
        open_ &= waiting
    return stays
