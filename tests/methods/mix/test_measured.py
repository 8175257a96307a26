"""Methods that measure, over simulated skills with a known optimum: what they find, what they refuse, what they tell."""

import hashlib
import importlib.util
from typing import Any

import numpy as np
import polars as pl
import pytest

from backends.protocols import TokenLogprobs, Turn
from backends.tune.simulated import SimulatedTuner
from methods.mix._proxies import ProxyMix
from methods.mix.aioli import Aioli
from methods.mix.autoscale import AutoScale
from methods.mix.data_mixing_laws import DataMixingLaws
from methods.mix.doremi import DoReMi
from methods.mix.log_linear import LogLinear
from methods.mix.odm import ODM
from methods.mix.quadratic import QuadraticMix
from methods.mix.regmix import RegMix
from methods.mix.skill_it import SkillIt
from methods.mixtures.simplex import minimize
from schemas.errors import BackendError, MissingExtra, UsageError
from schemas.identity import canonical_json
from schemas.method import Blend, Using
from tests.methods._pools import pool_of, rng

AFFINITY = np.array([[1.0, 0.3, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
TUNER = SimulatedTuner(
    skills=("skill-a", "skill-b", "skill-c"), affinity=tuple(map(tuple, AFFINITY.tolist())), rate=0.1, noise=0.003
)
FREE: dict[str, Any] = {"max_repeats": 100.0}
has_lightgbm = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="needs the extra `mixture`")


def pools(**sizes: int) -> dict[str, pl.DataFrame]:
    """A pool per skill, with ids that depend on its name."""
    found: dict[str, pl.DataFrame] = {}
    for name, size in sizes.items():
        if size:
            frame = pool_of(*((f"skill-{name} question {i}?", f"an answer {i}") for i in range(size)), source=name)
        else:
            frame = pool_of(("x", "y"), source=name).head(0)
        ids = [hashlib.sha256(f"{name} {i}".encode()).digest()[:16] for i in range(size)]
        found[name] = frame.with_columns(pl.Series("id", ids, dtype=pl.Binary))
    return found


THREE = pools(a=300, b=200, c=100)


def weigh(method: ProxyMix, sources: dict[str, pl.DataFrame] = THREE, tuner: Any = None, **using: Any) -> Blend:
    target = using.pop("target", None)
    tools = Using(_tune=tuner or TUNER.open(), **using)
    return method.weigh(sources, using=tools, rng=rng(), target=target)


def shares(blend: Blend) -> np.ndarray:
    return np.array([blend.notes["asked"][name] for name in "abc"])


def optimum() -> np.ndarray:
    """The static mixture of least mean loss after 50 batches, worked out from the planted matrix."""
    power = 50 * np.log(1 - 0.1) / 1.0  # a pure batch keeps 1 - rate; small steps multiply to an exponential

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        losses = np.exp(power * (AFFINITY.T @ p))
        return float(losses.mean()), power * AFFINITY @ losses / 3

    return minimize(objective, np.full(3, 1 / 3)).shares


@pytest.mark.parametrize(
    ("method", "near"),
    [
        (LogLinear(kl=0, proxies=40, bootstraps=20, **FREE), 0.03),
        (DataMixingLaws(proxies=40, bootstraps=0, **FREE), 0.03),
        (QuadraticMix(proxies=40, bootstraps=10, **FREE), 0.08),
        (SkillIt(**FREE), 0.12),
        (DoReMi(**FREE), 0.12),
        (Aioli(**FREE), 0.12),
        (AutoScale(factor=2, **FREE), 0.12),
    ],
    ids=lambda value: value.name if isinstance(value, ProxyMix) else "",
)
def test_the_planted_optimum_is_found_and_beats_uniform_outside_the_interval(method: ProxyMix, near: float):
    found = weigh(method)
    assert np.abs(shares(found) - optimum()).max() < near, f"optimum {optimum()}, found {shares(found)}"
    uniform = next(one for one in found.notes["compared"] if one["against"] == "uniform")
    assert uniform["verdict"] == "better"
    assert "better than uniform" in found.notes["says"]
    canonical_json(found.notes)


def test_the_notes_and_the_table_of_runs_say_how_it_was_found():
    found = weigh(LogLinear(kl=0, proxies=20, bootstraps=20, check_seeds=2, **FREE))
    assert found.notes["measured_on"] == {"a": 60, "b": 40, "c": 20}
    assert found.notes["left_out"] == {"held out to measure on": 120}
    assert found.notes["law"]["rank_agreement"] > 0.99
    assert found.notes["predicted"]["proposed"] == pytest.approx(found.notes["measured"]["estimate"], abs=0.02)
    for name, share in found.notes["asked"].items():
        low, high = found.notes["intervals"][name]
        assert low - 0.01 <= share <= high + 0.01
    assert found.notes["repetition"]["a"] == found.take["a"] / 300
    assert found.runs is not None
    assert found.runs["kind"].value_counts().sort("kind").rows() == [
        ("check: proportional", 2), ("check: proposed", 2), ("check: uniform", 2), ("pilot", 20),
    ]  # fmt: skip
    pilots = found.runs.filter(kind="pilot")
    assert (pilots.select(pl.sum_horizontal("^w_.*$")).to_series() - 1).abs().max() < 1e-9
    assert (pilots["measured"] - pilots["predicted"]).abs().max() < 0.05


def test_the_kl_term_holds_the_mixture_near_the_prior_and_caps_bind():
    plain = {"bootstraps": 0, "proxies": 40, "check_seeds": 1}
    far, near = weigh(LogLinear(kl=0, **plain, **FREE)), weigh(LogLinear(kl=50, **plain, **FREE))
    sizes = np.array([240, 160, 80]) / 480
    assert np.abs(shares(near) - sizes).max() < 0.01 < np.abs(shares(far) - sizes).max()
    capped = weigh(LogLinear(kl=0, **plain, total_examples=600, max_repeats=1.1))
    assert capped.take["c"] <= 110
    assert max(capped.notes["repetition"].values()) <= 1.1


def test_a_share_that_no_run_had_is_not_proposed_unless_asked_for():
    linear = {
        "regression": "linear",
        "simulated": 2000,
        "proxies": 20,
        "bootstraps": 0,
        "importance": {"c": 1.0},
        **FREE,
    }
    careful, bold = (weigh(RegMix(beyond_measured=free, **linear)) for free in (False, True))
    assert careful.runs is not None
    most = careful.runs.filter(kind="pilot")["w_c"].max()
    assert careful.notes["asked"]["c"] <= most + 1e-9  # type: ignore[operator]
    assert bold.notes["asked"]["c"] >= careful.notes["asked"]["c"]


@has_lightgbm
def test_regmix_beats_uniform_with_trees():
    found = weigh(RegMix(proxies=48, bootstraps=2, simulated=2000, importance={"a": 1.0}, **FREE))
    assert found.notes["compared"][0]["verdict"] == "better"
    assert found.weights["a"] > 0.8, "nothing else teaches a"
    assert set(found.notes["intervals"]) == {"a", "b", "c"}


def test_regmix_needs_its_package_or_a_line(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtra, match=r"provender\[mixture\]'; or write `regression: linear`"):
        weigh(RegMix(proxies=20))
    found = weigh(RegMix(proxies=20, regression="linear", simulated=2000, bootstraps=2))
    assert sum(found.weights.values()) == pytest.approx(1)


def test_odm_keeps_exploring_and_prefers_what_costs_loss():
    hard = TUNER.model_copy(update={"start_loss": (3.0, 3.0, 9.0), "floor": (1.0, 1.0, 8.0), "affinity": None})
    found = weigh(ODM(reward_scale=30, **FREE), tuner=hard.open())
    assert found.weights["c"] == max(found.weights.values())
    assert min(found.weights.values()) > 0.03


def test_skill_it_takes_a_given_graph_and_names_what_is_not_there():
    graph = {"a": {"a": 1.0, "b": 0.3}, "b": {"b": 1.0, "c": 0.5}, "c": {"c": 1.0}}
    found = weigh(SkillIt(graph=graph, **FREE))
    assert found.notes["graph"]["b"] == {"a": 0.0, "b": 1.0, "c": 0.5}
    assert len(found.notes["rounds"]) == 6
    with pytest.raises(UsageError, match="graph names 'x'"):
        weigh(SkillIt(graph={"x": {"a": 1.0}}))


def test_a_target_set_decides_what_is_measured_and_its_texts_are_never_learned():
    target = pl.concat([THREE["c"].head(30), pool_of([("user", "Unanswered?")])]).with_columns(source=pl.lit("exam"))
    found = weigh(LogLinear(kl=0, bootstraps=0, **FREE), target=target)
    assert found.notes["measured_on"] == {"exam": 30}
    assert found.notes["left_out"] == {"in the target set": 30, "target examples without an answer": 1}
    assert found.weights["c"] > 0.95, "only b and c teach c, and c twice as well"


def test_importance_weighs_the_groups():
    mostly = weigh(LogLinear(kl=0, bootstraps=0, importance={"c": 1.0}, **FREE))
    assert mostly.weights["c"] > 0.9
    with pytest.raises(UsageError, match="importance names the group 'z'; measured are a, b, c"):
        weigh(LogLinear(importance={"z": 1.0}))
    with pytest.raises(UsageError, match="not all zero"):
        weigh(LogLinear(importance={"a": 0.0}))


def test_autoscale_s_intervals_come_from_runs_drawn_anew_and_hold_what_was_asked():
    found = weigh(AutoScale(factor=2, seeds=3, **FREE))
    assert found.notes["refits"] == 100
    for name, share in found.notes["asked"].items():
        low, high = found.notes["intervals"][name]
        assert low <= share <= high, (name, low, share, high)
    alone = weigh(AutoScale(factor=2, seeds=1, **FREE))
    assert (alone.notes["refits"], alone.notes["intervals"]) == (0, {}), "one seed says nothing about chance"


def test_one_source_is_taken_without_measuring_and_no_rows_are_refused():
    for method in (LogLinear(), SkillIt(), DoReMi(), AutoScale()):
        found = weigh(method, pools(a=40, b=0), tuner=Broken())
        assert (found.weights, found.runs) == ({"a": 1.0, "b": 0.0}, None)
        assert found.notes["says"] == "a is the only source to learn from; nothing was measured"
        assert method.queue(pools(a=40, b=0), None) == []
    with pytest.raises(UsageError, match="nothing to mix"):
        weigh(LogLinear(), pools(a=0, b=0))
    with pytest.raises(UsageError, match="no proxy can be measured"):
        weigh(LogLinear(), pools(a=3, b=4))
    unanswered = pool_of([("user", "Hello?")], [("user", "Hello?"), ("assistant", " ")])
    with pytest.raises(UsageError, match="no example of the pools ends with an assistant's answer"):
        weigh(LogLinear(), {"a": unanswered})


class Broken(SimulatedTuner):
    """Every session of an odd seed ends in losses that are no numbers; all of them where ``always``."""

    always: bool = False

    def start(self, rng_seed: int = 0) -> Any:
        session = self.open().start(rng_seed)
        if self.always or rng_seed % 2:

            class Lost(type(session)):
                def losses(self, conversations: list[list[Turn]]) -> list[TokenLogprobs]:
                    return [TokenLogprobs((float("nan"),)) for _ in conversations]

            session.__class__ = Lost
        return session


def test_runs_without_a_finite_loss_are_counted_and_left_out_and_too_many_of_them_are_an_error():
    skills = {"skills": TUNER.skills, "affinity": TUNER.affinity, "rate": 0.1}
    some, all_ = Broken(**skills), Broken(**skills, always=True)
    found = weigh(LogLinear(proxies=20, seeds=2, bootstraps=5, check_seeds=2, **FREE), tuner=some)
    assert found.notes["law"]["runs"] == found.notes["law"]["failed_runs"] == 20
    assert found.runs is not None
    assert found.runs.filter(pl.col("kind") == "pilot")["measured"].null_count() == 20
    for method in (LogLinear(proxies=20), AutoScale(), SkillIt(), DoReMi(), Aioli()):
        with pytest.raises(BackendError, match="finite"):
            weigh(method, tuner=all_)
    assert "ended without a finite loss" in weigh(ODM(), tuner=all_).notes["says"]


def test_equal_losses_everywhere_are_said_not_fitted():
    flat = TUNER.model_copy(update={"noise": 0.0, "floor": (3.0,)})
    with pytest.raises(UsageError, match="cannot be fitted: all 64 runs have the loss 3"):
        weigh(LogLinear(), tuner=flat.open())


def test_too_few_mixtures_say_what_to_raise():
    with pytest.raises(UsageError, match="needs 5 different mixtures; 3 were measured: raise `proxies`"):
        weigh(LogLinear(proxies=3))
    with pytest.raises(UsageError, match="aioli tries 3 mixtures in a round of 3 examples"):
        weigh(Aioli(proxy_examples=8, proxy_epochs=2))
    with pytest.raises(UsageError, match="extrapolates from three checkpoints"):
        weigh(DataMixingLaws(extrapolate=2))


def test_row_order_changes_nothing_and_all_jobs_are_in_the_queue_beforehand():
    asked: list[str] = []

    def once(what: Any, make: Any) -> Any:
        asked.append(canonical_json(what))
        return make()

    method = LogLinear(proxies=10, bootstraps=3, check_seeds=1)
    one = weigh(method, once=once)
    other = weigh(method, {name: frame.reverse() for name, frame in reversed(THREE.items())})
    assert (one.weights, one.take) == (other.weights, other.take)
    queued: list[str] = []
    for job in method.queue(THREE, None):
        job.make(Using(_tune=TUNER.open(), once=lambda what, make: queued.append(canonical_json(what)) or make()))
    assert len(asked) == 13
    assert set(queued) < set(asked)
    assert len(set(asked) - set(queued)) == 1, "only the proposal cannot be known beforehand"


def test_methods_of_one_design_share_their_runs_and_another_design_has_others():
    def asked_by(method: ProxyMix) -> set[str]:
        found: set[str] = set()
        weigh(method, once=lambda what, make: found.add(canonical_json(what)) or make())
        return found

    one = asked_by(LogLinear(proxies=10, kl=0.1, bootstraps=0))
    assert len(one & asked_by(QuadraticMix(proxies=10, bootstraps=0))) >= 16, "ten pilots and six baselines"
    assert not one & asked_by(LogLinear(proxies=10, bootstraps=0, design_seed=1))


def test_checkpoints_measure_a_run_on_its_way():
    found = weigh(DataMixingLaws(proxies=20, checkpoints=3, extrapolate=2, bootstraps=0, **FREE))
    assert found.notes["predicted"]["proposed"] < found.notes["measured"]["estimate"], "longer training, lower loss"
