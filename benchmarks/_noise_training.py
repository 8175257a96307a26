"""What filtering and correcting do to a model trained afterwards: small proxies tuned on each version of the same rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.nli.embedding import EmbeddingNLIEngine
from backends.protocols import Request, Turn
from backends.train.sprout_judgements import COMPARE_REASONS, Verdict
from backends.tune.torch_loop import TorchTuner
from benchmarks._noise_data import Known, Row, asked, examples
from benchmarks._noise_signals import Engines, clear_settings, doubts
from methods.asking.sampling import Draw
from methods.filter._confidence import confidences
from methods.filter.clear_correct import ClearCorrect, VerdictReplies
from methods.filter.relevance import relevance
from schemas.identity import fingerprint
from schemas.method import Using
from tasks.engines import StoredTuner, opened

BOOTSTRAPS = 2000
TUNER = TorchTuner(epochs=2, threads=1)
CANDIDATES = Draw(max_tokens=64)


@dataclass(frozen=True)
class Version:
    """One version of the rows: what a proxy is trained on, and how many of those are still bad."""

    name: str
    rows: list[Row]
    bad: int


def versions(
    known: Known, truth: Sequence[Row], engines: Engines, work: Path, rng_seed: int
) -> tuple[list[Version], dict[str, Any]]:
    """The rows as they are, halved in several ways, corrected by CLEAR, and as they should be; and CLEAR's audit."""
    rng, n = np.random.default_rng(rng_seed), len(known.rows)
    half, trust = n // 2, trusted(known.rows, engines, rng_seed)

    def kept(name: str, which: Sequence[int] | np.ndarray) -> Version:
        places = sorted(int(i) for i in which)
        return Version(name, [known.rows[i] for i in places], int(known.bad[places].sum()))

    def least(signal: str) -> np.ndarray:
        return np.argsort(-trust[signal], kind="stable")[:half]

    corrected, audit, unjudged = corrections(known, engines, work, rng_seed)
    right = rng.permutation(np.flatnonzero(~known.bad))
    found = [
        kept("all rows, a fifth swapped", range(n)),
        kept("a random half", rng.permutation(n)[:half]),
        kept("the half that CLEAR trusts most (O, S, L)", least("CLEAR")),
        kept("the half whose answers are nearest (cosine)", least("cosine")),
        kept("a half without any bad row (truth)", right[:half]),
        corrected,
        unjudged,
        Version("all rows, the truth restored", list(truth), 0),
    ]
    return found, audit


def trusted(rows: Sequence[Row], engines: Engines, rng_seed: int) -> dict[str, np.ndarray]:
    """CLEAR's confidence of each row, and the cosine of question and answer."""
    using = Using(engines.llm, _nli=EmbeddingNLIEngine(engines.minilm))
    found = confidences(examples(rows), clear_settings(2, 24), using=using, seed=_seed(rng_seed))
    cosine = relevance(
        engines.minilm.embed([asked(row) for row in rows]), engines.minilm.embed([row["output"] for row in rows])
    )
    return {"CLEAR": 1 - doubts([one.confidence for one in found]), "cosine": cosine}


def _seed(rng_seed: int) -> int:
    """The number that a method draws first, so that equal calls are made once."""
    return int(np.random.default_rng(rng_seed).integers(2**31))


def corrections(known: Known, engines: Engines, work: Path, rng_seed: int) -> tuple[Version, dict[str, Any], Version]:
    """CLEAR with correction (kept and edited rows), its audit, and the same without a judge: every new answer taken."""
    settings = clear_settings(2, 24).model_dump(exclude={"method", "prompts"})
    method = ClearCorrect(
        **settings,
        candidates="dropped",
        candidate_draw=CANDIDATES,
        verdict="probability",
        verdict_reflections=0,
        verdict_replies=VerdictReplies(A=_replies("A"), B=_replies("B"), tie=_replies("tie")),
    )
    tuner = StoredTuner(TUNER, work / "proxies", lambda llm: llm)
    nli = EmbeddingNLIEngine(engines.minilm)
    using = Using(engines.llm, _judge=engines.llm, _nli=nli, _tune=tuner)
    pool = examples(known.rows)
    verdicts = method.judge(pool, using=using, rng=np.random.default_rng(rng_seed))
    fates = verdicts["fate"].to_list()
    rows, anew, bad_left = [], [], 0
    for i, (fate, said) in enumerate(zip(fates, verdicts["successor"], strict=True)):
        if fate in ("keep", "edit"):
            text = said[-1]["content"] if fate == "edit" else known.rows[i]["output"]
            rows.append({**known.rows[i], "output": text})
            bad_left += bool(known.bad[i]) and fate == "keep"
    stands = [i for i, fate in enumerate(fates) if fate == "keep"]
    others = [i for i, fate in enumerate(fates) if fate != "keep"]
    by_id = sorted(stands, key=lambda i: pool["id"][i])
    tuned = tuner.tuned([conversation(known.rows[i]) for i in by_id], rng_seed=_seed(rng_seed))
    replies = tuned.generate(
        [Request((Turn("user", asked(known.rows[i])),), None, CANDIDATES.sampling()) for i in others]
    )
    anew = [{**known.rows[i], "output": r.text.strip()} for i, r in zip(others, replies, strict=True) if r.text.strip()]
    return (
        Version("CLEAR with correction (kept and edited)", rows, bad_left),
        dict(method.audit(pool, verdicts)),
        Version("the same, every new answer taken unjudged", [known.rows[i] for i in stands] + anew, bad_left),
    )


def _replies(verdict: Verdict) -> tuple[str, ...]:
    return tuple(f"reason: {text}, verdict: {verdict}" for text in COMPARE_REASONS[verdict])


def conversation(row: Row) -> tuple[Turn, ...]:
    """As it is learned."""
    return (Turn("user", asked(row)), Turn("assistant", row["output"]))


def measure(made: Sequence[Version], held_out: Sequence[Row], seeds: int, work: Path) -> dict[str, np.ndarray]:
    """Loss (nats per token) of each held-out answer after training on each version: shape (seeds, rows).

    What was measured is kept in ``work`` and not measured again, so that a study can be cut into pieces.
    """
    folder = work / "losses"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        for version in [*made, Version("no training at all", [], 0)]:
            what = {"tuner": TUNER.identity(), "rows": version.rows, "held_out": list(held_out), "seed": seed}
            path = folder / f"{fingerprint(what)}.json"
            if not path.is_file():
                session = opened(TUNER).start(seed)
                if version.rows:
                    session.learn([conversation(row) for row in version.rows], epochs=TUNER.epochs)
                scored = session.losses([conversation(row) for row in held_out])
                path.write_text(json.dumps([-s.sum_logprob / max(1, s.n_tokens) for s in scored]) + "\n")
                print(f"  trained: {version.name}, {len(version.rows)} rows, seed {seed}", flush=True)
            found.setdefault(version.name, []).append(json.loads(path.read_text()))
    return {name: np.array(losses) for name, losses in found.items()}


def compare(
    losses: Mapping[str, np.ndarray], made: Sequence[Version], baseline: str, rng_seed: int
) -> list[dict[str, Any]]:
    """Mean loss per version, its spread over seeds, and the change against ``baseline`` (bootstrap over rows and seeds)."""
    known = {version.name: version for version in made}
    found: list[dict[str, Any]] = []
    for name, values in losses.items():
        difference = values - losses[baseline]
        low, high = crossed_interval(difference, rng_seed)
        found.append(
            {
                "version": name,
                "rows": len(known[name].rows) if name in known else 0,
                "bad": known[name].bad if name in known else 0,
                "loss": round(float(values.mean()), 4),
                "seeds": [round(float(x), 4) for x in values.mean(axis=1)],
                "change": round(float(difference.mean()), 4),
                "change_95": [round(low, 4), round(high, 4)],
            }
        )
    return found


def crossed_interval(difference: np.ndarray, rng_seed: int) -> tuple[float, float]:
    """95 % interval of the mean over seeds and rows, both drawn again with replacement."""
    rng = np.random.default_rng(rng_seed)
    seeds, rows = difference.shape
    means = [
        difference[np.ix_(rng.integers(seeds, size=seeds), rng.integers(rows, size=rows))].mean()
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
