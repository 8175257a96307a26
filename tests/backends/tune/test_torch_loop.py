"""The proxy tuner on a tiny model: it learns what it is shown, equal input gives equal weights, gradients are true."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from backends.protocols import Request, Sampling, ScoreRequest, Turn
from backends.tune.torch_loop import TorchTuner
from backends.weights import resolve
from schemas.errors import BackendError

pytestmark = pytest.mark.engine
QUICK = TorchTuner(epochs=12, batch_size=4, learning_rate=2e-3, schedule="constant")


def asked(*pairs: tuple[str, str]) -> list[list[Turn]]:
    return [[Turn("user", question), Turn("assistant", answer)] for question, answer in pairs]


FACTS = asked(("Color of the door?", "green"), ("Color of the roof?", "purple"), ("Color of the wall?", "orange"))


def mean_loss(scores) -> float:
    return -sum(s.sum_logprob for s in scores) / sum(s.n_tokens for s in scores)


def test_a_session_learns_what_it_is_shown_and_the_loss_falls() -> None:
    session = QUICK.open().start(rng_seed=1)
    before = mean_loss(session.losses(FACTS))
    history = session.learn(FACTS, epochs=12)
    assert len(history) == 12, "three conversations in batches of four are one step an epoch"
    assert mean_loss(session.losses(FACTS)) < 0.3 * before


def test_a_reset_session_is_a_fresh_one() -> None:
    session = QUICK.open().start(rng_seed=1)
    before = mean_loss(session.losses(FACTS))
    first = session.learn(FACTS, epochs=3)
    session.reset()
    assert mean_loss(session.losses(FACTS)) == before
    assert session.learn(FACTS, epochs=3) == first


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_equal_input_gives_equal_weights_and_another_seed_another_order(adapter: str) -> None:
    tuner = TorchTuner(adapter=adapter, batch_size=1, learning_rate=1e-3).open()

    def history(seed: int) -> list[float]:
        return tuner.start(seed).learn(FACTS, epochs=1)

    assert history(3) == history(3)
    assert len({tuple(history(seed)) for seed in range(3)}) > 1


@pytest.fixture
def with_dropout(tmp_path):
    """Sprout, with a dropout that it was not trained with."""
    folder = tmp_path / "dropping"
    shutil.copytree(resolve("sprout").source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.2}))
    return str(folder)


@pytest.mark.parametrize("dropping", [False, True], ids=["lora", "lora and dropout"])
def test_proxies_that_learn_at_once_end_as_one_after_the_other(request, dropping: bool) -> None:
    model = request.getfixturevalue("with_dropout") if dropping else "sprout"
    tuner = TorchTuner(model=model, adapter="lora", batch_size=1, learning_rate=1e-3).open()

    def history(seed: int) -> list[float]:
        session = tuner.start(seed)
        first = session.learn(FACTS, epochs=2)
        session.reset()
        assert session.learn(FACTS, epochs=2) == first, "a reset session draws anew what it drew"
        return first

    alone = [history(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(history, range(4))) == alone
    before = torch.random.get_rng_state()
    history(0)
    assert torch.equal(torch.random.get_rng_state(), before), "what others draw in this process is untouched"


def test_models_that_load_at_once_get_their_weights() -> None:
    """Transformers left some without (a meta tensor, a random head) when two threads built one at a time each."""
    engine = TorchTuner().open()
    with ThreadPoolExecutor(4) as pool:
        losses = list(pool.map(lambda seed: mean_loss(engine.start(seed).losses(FACTS)), range(8)))
    assert len(set(losses)) == 1


def test_a_conversation_of_weight_zero_teaches_nothing() -> None:
    tuner = QUICK.open()
    kept, ignored = tuner.start(0), tuner.start(0)
    kept.learn(FACTS[:2], epochs=3, keep_order=True)
    ignored.learn(FACTS, weights=[1.5, 1.5, 0.0], epochs=3, keep_order=True)
    a, b = (mean_loss(s.losses(FACTS[:2])) for s in (kept, ignored))
    assert a == pytest.approx(b, rel=1e-4), "weights (1.5, 1.5, 0) of three are the mean over the first two"


def test_a_saved_model_scores_and_answers_as_the_session_did(tmp_path) -> None:
    engine = QUICK.open()
    engine.train_into(tmp_path / "model", FACTS, rng_seed=1, keep_order=False)
    loaded = engine.load(tmp_path / "model")
    session = QUICK.open().start(rng_seed=1)
    session.learn(FACTS, epochs=12)
    wanted = session.losses(FACTS)[0].sum_logprob
    scored = loaded.logprobs([ScoreRequest(FACTS[0][-1].content, tuple(FACTS[0][:-1]))])[0].sum_logprob
    assert scored == pytest.approx(wanted, abs=1e-3)
    reply = loaded.generate([Request(messages=tuple(FACTS[0][:-1]), sampling=Sampling(max_tokens=8))])[0]
    assert reply.text.strip() == "green"


def test_projected_gradients_keep_inner_products_and_predict_who_helps_whom() -> None:
    session = TorchTuner(adapter="lora", batch_size=1, learning_rate=1e-3).open().start(0)
    session.learn(FACTS, epochs=1)  # LoRA's B matrices leave zero, so that both factors have gradients
    probes = [FACTS[0], FACTS[0], *asked(("Name a river.", "the quiet long river of the north"))]
    found = session.gradients(probes, dim=2048, rng_seed=5)
    assert found.shape == (3, 2048)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit[0] @ unit[1] == pytest.approx(1.0, abs=1e-5)
    assert unit[0] @ unit[2] < 0.9
    again = session.gradients(probes[:1], dim=2048, rng_seed=5)
    assert np.allclose(again[0], found[0], atol=1e-6)


def test_nothing_to_learn_and_an_unanswered_conversation_are_named() -> None:
    session = QUICK.open().start()
    with pytest.raises(BackendError, match="0 conversations"):
        session.learn([])
    with pytest.raises(BackendError, match="ends with an assistant turn"):
        session.learn([[Turn("user", "Hello?")]])


def test_settings_that_change_the_weights_are_identity_and_the_device_is_not() -> None:
    base = TorchTuner().identity()
    assert TorchTuner(device="cpu", threads=1).identity() == base
    assert TorchTuner(epochs=3).identity() != base
    assert "lora_rank" not in base, "a rank decides nothing where there is no LoRA"
