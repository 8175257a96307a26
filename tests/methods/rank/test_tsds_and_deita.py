"""TSDS against the specification's line of points, and copies; DEITA's expected digit and its nulls."""

import numpy as np
import pytest

from backends.protocols import Reply, Request, ScoreRequest, TokenLogprobs
from methods.rank.deita import DeitaScore
from methods.rank.tsds import Tsds, density, probabilities
from schemas.errors import UsageError
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods._pools import pool_of, rng
from tests.methods.llm_doubles import AnswersBy

QUERIES, POINTS = np.array([0.0, 10.0]), np.array([0.0, 1, 2, 9, 11, 12, 30])


def on_a_line(scale: float) -> np.ndarray:
    far = np.abs(QUERIES[:, None] - POINTS[None, :])
    order = np.argsort(far, axis=1, kind="stable")
    return probabilities(np.take_along_axis(far, order, 1), order, np.ones(7), 0.5 / scale, 0.5)


def test_the_vectors_of_the_specification() -> None:
    assert on_a_line(1).tolist() == [0.25, 0.25, 0, 0.25, 0.25, 0, 0], "s = 2"
    assert on_a_line(5) == pytest.approx([1 / 6] * 6 + [0]), "s = 3"


def test_a_larger_scale_spreads_wider_and_probabilities_sum_to_one() -> None:
    support = [int((on_a_line(scale) > 0).sum()) for scale in (1, 5, 50, 5000)]
    assert support == sorted(support)
    assert all(on_a_line(scale).sum() == pytest.approx(1) for scale in (0.1, 1, 5, 50, 5000))


def unit(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_copies_share_what_one_of_them_would_get() -> None:
    angles = np.concatenate([np.linspace(0.1, 1.5, 30), np.full(20, 0.1)])
    rows, goals = unit(angles), unit(np.array([0.12, 0.8]))
    far = np.sqrt(np.maximum(0, 2 - 2 * goals @ rows.T))
    order = np.argsort(far, axis=1, kind="stable")
    sorted_far = np.take_along_axis(far, order, 1)
    copies = np.flatnonzero(angles == 0.1)
    loose = probabilities(sorted_far, order, np.ones(50), 0.1, 0.5)[copies].sum()
    shared = probabilities(sorted_far, order, density(rows, 0.1, 50), 0.1, 0.5)[copies].sum()
    assert shared < 0.5 * loose
    assert (density(rows, 0.1, 50) >= 1).all()
    assert density(rows, 0.0, 50).tolist() == [1.0] * 50


def test_a_ranking_needs_a_target_and_never_draws_twice() -> None:
    pool = pool_of(*[(f"question {i}", f"answer {i % 5}") for i in range(40)])
    with pytest.raises(UsageError, match="role: target"):
        Tsds().rank(pool, target=None, using=Using(_embed=Hashed()), rng=rng())
    aim = pool_of(("question 3", "answer 3"), source="aim")
    found = Tsds().rank(pool, target=aim, using=Using(_embed=Hashed()), rng=rng())
    assert found["id"].n_unique() == 40
    assert found["probability"].sum() == pytest.approx(1)
    assert (found["score"].is_null() == (found["probability"] == 0)).all()


def judge(request: ScoreRequest) -> TokenLogprobs:
    if "broken" in request.messages[0].content:
        return TokenLogprobs(failure="server-error")
    wanted = "2" if "How complex" in request.messages[0].content else "4"
    return TokenLogprobs((0.0 if request.completion == wanted else -40.0, -1.0))


def test_complexity_times_quality_and_null_where_a_score_is_missing() -> None:
    pool = pool_of(
        ("q", "a"), [("user", "q"), ("assistant", "a"), ("user", "r"), ("assistant", "b")], ("broken", "a"), ("q", "")
    )
    found = DeitaScore().rank(pool, target=None, using=Using(_judge=AnswersBy(str, judge)), rng=rng())
    assert found["score"].to_list() == [pytest.approx(8.0), pytest.approx(16.0), None, None], "2 x 4, summed over turns"
    assert found["complexity"].to_list()[:2] == [pytest.approx(2.0), pytest.approx(2.0)]


def test_a_written_digit_is_read_or_it_is_null() -> None:
    def says(request: Request) -> str | Reply:
        text = request.messages[0].content
        return "no idea" if "odd" in text else "3" if "How complex" in text else "5."

    pool = pool_of(("q", "a"), ("odd", "a"))
    found = DeitaScore(by="reply").rank(pool, target=None, using=Using(_judge=AnswersBy(says)), rng=rng())
    assert found["score"].to_list() == [15.0, None]
