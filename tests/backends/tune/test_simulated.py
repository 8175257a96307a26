"""The simulated tuner follows its own arithmetic, and says of itself that it is simulated."""

import numpy as np
import pytest
from pydantic import ValidationError

from backends.protocols import Request, ScoreRequest, Tuner, Turn
from backends.tune.simulated import SimulatedTuner
from schemas.errors import BackendError


def asked(skill: str, count: int = 1) -> list[list[Turn]]:
    return [[Turn("user", f"{skill} number {i}"), Turn("assistant", "two words")] for i in range(count)]


TUNER = SimulatedTuner(
    skills=("red", "blue"),
    affinity=((1.0, 0.5), (0.0, 1.0)),
    start_loss=(3.0, 2.0),
    floor=(1.0,),
    rate=0.1,
    batch_size=4,
)


def level(session, *skills: str) -> list[float]:
    return [-session.losses(asked(skill))[0].logprobs[0] for skill in skills]


def test_a_batch_takes_its_share_of_each_loss_above_the_floor():
    session = TUNER.open().start()
    history = session.learn([*asked("red", 3), *asked("blue", 1)])
    assert history == pytest.approx([(3 * 3.0 + 2.0) / 4]), "the loss before the step"
    assert level(session, "red", "blue") == pytest.approx(
        [1 + 2 * (1 - 0.1 * 0.75), 1 + 1 * (1 - 0.1 * (0.5 * 0.75 + 0.25))]
    )
    session.learn(asked("red", 4), weights=[2.0] * 4)
    assert level(session, "red")[0] == pytest.approx(1 + 2 * (1 - 0.1 * 0.75) * (1 - 0.1 * 2))


def test_epochs_are_batches_and_words_are_tokens():
    session = TUNER.open().start()
    assert len(session.learn(asked("red", 6), epochs=2.5)) == 5, "4 + 2, 4 + 2, 3"
    assert session.losses(asked("blue"))[0].n_tokens == 2


def test_noise_depends_on_the_seed_alone_and_unknown_texts_are_hashed():
    noisy = TUNER.model_copy(update={"noise": 0.1})
    one, same, other = (level(noisy.open().start(seed), "red") for seed in (1, 1, 2))
    assert one == same != other
    assert TUNER.skill_of(asked("green")[0]) == TUNER.skill_of(asked("green")[0])


def test_gradients_of_one_skill_are_alike():
    found = TUNER.open().start().gradients([*asked("red", 2), *asked("blue")], dim=64, rng_seed=3)
    assert found.shape == (3, 64)
    assert np.allclose(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_a_tuned_model_scores_as_its_session_did_and_cannot_write(tmp_path):
    engine = TUNER.open()
    assert isinstance(engine, Tuner)
    tuned = engine.tuned(asked("red", 8))
    before, after = (
        m.logprobs([ScoreRequest("yes", (Turn("user", "red"),))])[0].sum_logprob for m in (engine.untuned(), tuned)
    )
    assert before == pytest.approx(-3.0)
    assert after == pytest.approx(-(1 + 2 * 0.9**2))
    engine.train_into(tmp_path / "m", asked("red", 8), rng_seed=0, keep_order=False)
    assert engine.load(tmp_path / "m").identity() == tuned.identity()
    assert engine.identity()["backend"] == "simulated"
    with pytest.raises(BackendError, match="only score"):
        tuned.generate([Request.ask("Hello?")])


def test_nothing_to_learn_and_a_matrix_that_does_not_fit_are_refused():
    with pytest.raises(BackendError, match="0 conversations"):
        TUNER.open().start().learn([])
    with pytest.raises(ValidationError, match="affinity is 2 rows of 2 numbers"):
        SimulatedTuner(skills=("a", "b"), affinity=((1.0,),))
    with pytest.raises(ValidationError, match="one per skill"):
        SimulatedTuner(skills=("a", "b"), floor=(1.0, 1.0, 1.0))
