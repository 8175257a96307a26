"""Three passes over a mixture: foundations first and a little twice, then everything shuffled, then what builds on them."""

from collections.abc import Mapping

from schemas.method import Stretch

#: From this many examples a pass, a smaller part of the foundations is repeated early (the paper's two settings).
LARGE = 50_000
EARLY_SMALL, EARLY_LARGE = 0.10, 0.05


def three_passes(
    take: Mapping[str, int], stages: Mapping[str, int], early: float | None, held_back: float
) -> list[Stretch]:
    """The parts of three passes over ``take`` examples of each pool.

    First pass: pools in the order of their stages; the first stage's give a share ``early`` of theirs once more, the last
    stage's keep ``held_back`` of theirs out. Second pass: everything, shuffled. Third pass, shuffled: what was repeated
    early is left out, what was held back comes once more. Over all three every pool gives three times its ``take``.
    Paper: Zhao et al. 2024, https://arxiv.org/abs/2409.07045 (the shape; the size of the last two shares is ours).

    >>> parts = three_passes({"sums": 20, "jokes": 10}, {"sums": 0, "jokes": 1}, 0.1, 0.2)
    >>> [(s.pool, s.examples, s.stage) for s in parts if s.turn == 0]
    [('jokes', 8, 1), ('sums', 20, 0), ('sums', 2, 0)]
    >>> [(s.pool, s.examples, s.turn) for s in parts if s.turn > 0]
    [('jokes', 10, 1), ('sums', 20, 1), ('jokes', 12, 2), ('sums', 18, 2)]
    """
    first, last = min(stages.values()), max(stages.values())
    share = early if early is not None else EARLY_LARGE if sum(take.values()) >= LARGE else EARLY_SMALL
    again = {name: round(share * n) if stages[name] == first else 0 for name, n in take.items()}
    later = {name: round(held_back * n) if stages[name] == last > first else 0 for name, n in take.items()}
    made: list[Stretch] = []
    for name in sorted(take):
        made.append(Stretch(name, take[name] - later[name], 0, stages[name]))
        made.append(Stretch(name, again[name], 0, stages[name]))
    made += [Stretch(name, take[name], 1, 0) for name in sorted(take)]
    made += [Stretch(name, take[name] - again[name] + later[name], 2, 0) for name in sorted(take)]
    return [stretch for stretch in made if stretch.examples]
