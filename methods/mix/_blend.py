"""From wanted weights to whole counts that no cap on repetition forbids."""

from collections.abc import Mapping, Sequence

import polars as pl

from methods.mixtures.rounding import largest_remainder, normalized_weights
from schemas.errors import UsageError
from schemas.method import Blend


def sizes_of(pools: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """Examples per pool, by name. Raises ``UsageError`` when no pool has any."""
    sizes = {name: pools[name].height for name in sorted(pools)}
    if not any(sizes.values()):
        raise UsageError(f"there is nothing to mix: {', '.join(sizes) or 'no pool'} without examples")
    return sizes


def blend(sizes: Mapping[str, int], wanted: Sequence[float], total: int, max_repeats: float) -> Blend:
    """``total`` examples in the wanted proportions, no example more than ``max_repeats`` times.

    What a pool cannot give goes to the others in proportion, and the notes name it under ``capped``. ``weights`` are the
    shares that came out; ``asked`` and the ``repetition`` per example stand in the notes.
    """
    asked = dict(zip(sizes, normalized_weights(list(wanted), "mix"), strict=True))
    caps = [int(max_repeats * size) for size in sizes.values()]
    take = dict(zip(sizes, largest_remainder(list(asked.values()), total, caps), strict=True))
    came = sum(take.values())
    if not came:
        raise UsageError(f"a mixture of {total} examples with at most {max_repeats} repeats leaves nothing")
    short = [name for name, cap in zip(sizes, caps, strict=True) if take[name] == cap and cap < asked[name] * total]
    return Blend(
        weights={name: n / came for name, n in take.items()},
        take=take,
        notes={
            "asked": asked,
            "repetition": {name: take[name] / size if size else 0.0 for name, size in sizes.items()},
            "capped": short,
            "wanted_examples": total,
        },
    )
