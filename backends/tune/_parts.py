"""The rows of one optimizer step in parts of like lengths, whose gradients add up to the step's: less padding to compute."""

from collections.abc import Sequence

#: What a part costs beside its tokens, in tokens: many small operations, and one addition to every gradient.
_EACH = 64


def parts_of(lengths: Sequence[int], each: int = _EACH) -> list[list[int]]:
    """Places of the rows in parts, shortest rows first, such that padded tokens and ``each`` per part are fewest.

    >>> parts_of([200, 10, 12, 190]), parts_of([200, 190]), parts_of([200, 10], each=1000)
    ([[1, 2], [3, 0]], [[1, 0]], [[1, 0]])
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    least: list[tuple[int, int]] = [(0, 0)]  # cost of the first n rows, and where their last part begins
    for end in range(1, len(order) + 1):
        width = lengths[order[end - 1]]
        least.append(min((least[start][0] + (end - start) * width + each, start) for start in range(end)))
    parts: list[list[int]] = []
    end = len(order)
    while end:
        start = least[end][1]
        parts.append(order[start:end])
        end = start
    return parts[::-1]
