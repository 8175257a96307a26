"""What a session says of gradients: Adam's directions as LESS defines them, singular values without the matrix."""

import numpy as np
import pytest

from backends.protocols import Turn
from backends.tune._adam import adam_direction
from backends.tune.simulated import SimulatedTuner
from backends.tune.torch_loop import TorchTuner

TALK = [
    [Turn("user", "Color of the door?"), Turn("assistant", "green and blue")],
    [Turn("user", "Name a river."), Turn("assistant", "the quiet long river of the north")],
]


def test_adams_direction_has_epsilon_inside_the_root_and_no_bias_correction():
    assert adam_direction(0.5, 0.1, 0.04, (0.9, 0.999), 1e-8) == pytest.approx(0.698170, abs=1e-6)
    tiny = adam_direction(np.array([1e-6, -1e-6]), 0.0, 0.0, (0.9, 0.999), 1e-8)
    assert tiny == pytest.approx(np.array([1e-7, -1e-7]) / np.sqrt(1e-15 + 1e-8)), "outside the root it would be ±1.3"


def test_a_simulated_session_goes_back_to_its_start_and_has_spectra():
    session = (
        SimulatedTuner(skills=("door", "river"), affinity=((1.0, 0.5), (0.0, 1.0)), start_loss=(3.0,)).open().start()
    )
    before = session.losses(TALK)
    assert [one["skills"][0].tolist() for one in session.spectra(TALK)] == [[2.0, 1.0], [2.0, 0.0]]
    session.learn(TALK, epochs=3)
    assert session.losses(TALK) != before
    assert session.mean_rate == 0.05
    session.reset()
    assert session.losses(TALK) == before


@pytest.mark.engine
def test_singular_values_are_those_of_the_whole_gradient_for_full_weights_and_under_lora():
    import torch

    full, lora = (TorchTuner(adapter=adapter, threads=1).open().start(0) for adapter in ("full", "lora"))
    found = full.spectra(TALK)
    assert set(found[0]) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    full._answer_losses([full._pair(TALK[1])]).mean().backward()
    for layer, block in enumerate(full.model.model.layers):
        for name, values in found[1].items():
            whole = torch.linalg.svdvals(getattr(block.self_attn, name).weight.grad).numpy()
            assert values[layer] == pytest.approx(whole[: len(values[layer])], abs=1e-5)
            assert whole[len(values[layer]) :].max() < 1e-5, "no more directions than tokens"
    adapted = lora.spectra(TALK)
    assert adapted[1]["v_proj"][0] == pytest.approx(found[1]["v_proj"][0], abs=1e-5), "LoRA begins as the model itself"


@pytest.mark.engine
def test_parts_of_a_run_share_one_schedule_and_tell_their_mean_rate():
    tuner = TorchTuner(batch_size=1, learning_rate=1e-3, schedule="linear", warmup_fraction=0.0, threads=1).open()
    session = tuner.start(0)
    rates = []
    for number in range(2):
        session.learn(TALK, part=(number, 2))
        rates.append(session.mean_rate)
    assert rates == pytest.approx([(1 + 0.75) / 2 * 1e-3, (0.5 + 0.25) / 2 * 1e-3])


@pytest.mark.engine
def test_adam_gradients_without_history_are_nearly_signs():
    session = TorchTuner(threads=1).open().start(0)
    plain, adam = (session.gradients(TALK[:1], dim=512, rng_seed=1, adam=adam) for adam in (False, True))
    assert np.isfinite(adam).all()
    assert abs(float((plain[0] @ adam[0]) / np.linalg.norm(plain[0]) / np.linalg.norm(adam[0]))) < 0.999
