"""A step's rows in parts of like lengths: every row once, never more to compute, and the same step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backends.protocols import Turn
from backends.tune._parts import parts_of
from backends.tune.torch_loop import TorchTuner


def cost(parts: list[list[int]], lengths: list[int], each: int) -> int:
    return sum(len(part) * max(lengths[i] for i in part) + each for part in parts)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.integers(0, 200))
def test_every_row_is_in_one_part_and_no_cut_in_two_would_be_cheaper(lengths: list[int], each: int) -> None:
    parts = parts_of(lengths, each)
    order = [i for part in parts for i in part]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths), "shortest first, so parts do not overlap in length"
    best = cost(parts, lengths, each)
    for cut in range(len(order) + 1):
        assert best <= cost([part for part in (order[:cut], order[cut:]) if part], lengths, each)


def test_two_lengths_far_apart_part_and_near_ones_stay() -> None:
    assert parts_of([100, 100, 10], each=50) == [[2], [0, 1]], "90 padded tokens twice would cost more than a part"
    assert parts_of([100, 100, 80], each=50) == [[2, 0, 1]]


@pytest.mark.engine
@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = [[Turn("user", "Say it."), Turn("assistant", "yes " * n)] for n in (1, 2, 60, 3, 90, 1, 70, 2)]
    weights = [0.5, 2.0, 1.0, 1.0, 0.25, 1.0, 3.0, 1.0]

    def learned(whole: bool) -> tuple[list[float], list[torch.Tensor]]:
        session = TorchTuner(adapter=adapter, batch_size=8, schedule="constant", warmup_fraction=0).open().start(0)
        if whole:
            monkeypatch.setattr(session, "_parts", lambda pairs: [list(range(len(pairs)))])
        else:
            assert len(session._parts([session._pair(one) for one in talk])) > 1
        history = session.learn(talk, weights=weights, epochs=1)
        return history, [p.grad.clone() for p in session._learned]

    (in_parts, some), (at_once, all_of_them) = learned(False), learned(True)
    assert in_parts == pytest.approx(at_once, abs=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in all_of_them)
    for one, other in zip(some, all_of_them, strict=True):
        assert float((one - other).abs().max()) < 1e-5 * largest
