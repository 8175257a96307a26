"""Signals that should tell bad rows from good ones, and how well they do: precision-recall area, intervals, reliability."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.nli.embedding import EmbeddingNLIEngine
from backends.protocols import LLM, Embedder, ScoreRequest, Turn
from backends.train.sprout_judgements import REFLECT_REPLIES
from benchmarks._noise_data import Row, asked, examples
from methods.asking.sampling import Draw
from methods.filter._auto_filter import AutoFilter
from methods.filter._bsdetector import combined
from methods.filter._confidence import confidences
from methods.filter.clear import Clear, LetterReplies
from methods.filter.heuristics import Heuristics
from methods.filter.relevance import relevance
from schemas.method import Using

BOOTSTRAPS = 1000

#: The complete replies that sprout was taught, so that their probability is that of the reply it would write.
SPROUT_REPLIES = LetterReplies(
    **{k: tuple(f"explanation: {text}, answer: {k}" for text in texts) for k, texts in REFLECT_REPLIES.items()}
)


@dataclass(frozen=True)
class Engines:
    """What the signals are computed with."""

    llm: LLM
    minilm: Embedder
    static: Embedder


def clear_settings(samples: int, max_tokens: int) -> Clear:
    """CLEAR as the embedded model is best asked: letters by probability."""
    return Clear(
        samples=samples,
        draw=Draw(max_tokens=max_tokens, temperature=1.0),
        reflections=1,
        reflection="letter-probability",
        letter_replies=SPROUT_REPLIES,
        likelihood="gain",
    )


def signals(
    rows: Sequence[Row], engines: Engines, *, samples: int, max_tokens: int, rng_seed: int
) -> dict[str, np.ndarray]:
    """A suspicion per row and signal: the higher, the likelier the row is bad. ``CLEAR`` is 1 - its confidence."""
    pool, best = examples(rows), clear_settings(samples, max_tokens)
    rng = np.random.default_rng(rng_seed)
    lengths = np.array([len(row["output"]) for row in rows], dtype=float)
    found = {"random": rng.random(len(rows)), "length (short)": -lengths, "length (long)": lengths}
    found |= likelihoods(rows, engines.llm)
    questions, answers = [asked(row) for row in rows], [row["output"] for row in rows]
    for name, embedder in (("MiniLM", engines.minilm), ("static", engines.static)):
        cosine = relevance(embedder.embed(questions), embedder.embed(answers))
        found[f"question-answer cosine, {name}"] = -cosine

    def confidence(settings: AutoFilter, embedder: Embedder | None = None) -> list[Any]:
        nli = EmbeddingNLIEngine(embedder) if embedder else None
        return confidences(pool, settings, using=Using(engines.llm, _nli=nli), seed=rng_seed)

    whole = confidence(best, engines.minilm)
    static = confidence(best.model_copy(update={"reflections": 0, "likelihood": "none"}), engines.static)
    exact = confidence(best.model_copy(update={"reflections": 0, "likelihood": "none", "consistency": "exact"}))
    written = Clear(samples=0, reflections=1, reflect_draw=Draw(max_tokens=48))
    found |= {
        "O: samples, exact": doubts([one.observed for one in exact]),
        "O: samples, substitute over static": doubts([one.observed for one in static]),
        "O: samples, substitute over MiniLM": doubts([one.observed for one in whole]),
        "S: reflection written": doubts([one.reflected for one in confidence(written)]),
        "S: letter probabilities": doubts([one.reflected for one in whole]),
        "L: token probability gain": doubts([one.likelihood for one in whole]),
        "CLEAR: O and S": doubts([combined(one.observed, one.reflected, best.beta) for one in whole]),
        "CLEAR: O, S and L": doubts([one.confidence for one in whole]),
    }
    return found


def flagged(rows: Sequence[Row]) -> np.ndarray:
    """Which rows the filter `heuristics` rejects: what costs no model at all."""
    verdicts = Heuristics().judge(examples(rows), using=Using(), rng=np.random.default_rng(0))
    return (verdicts["fate"] == "reject").to_numpy()


def likelihoods(rows: Sequence[Row], llm: LLM) -> dict[str, np.ndarray]:
    """Mean negative log-likelihood of each answer given its question, and that over the one without (IFD)."""
    before = [(Turn("user", asked(row)),) for row in rows]
    given = llm.logprobs([ScoreRequest(row["output"], turns) for row, turns in zip(rows, before, strict=True)])
    alone = llm.logprobs([ScoreRequest(row["output"]) for row in rows])
    nll, base = ([-s.sum_logprob / s.n_tokens if s.n_tokens else None for s in found] for found in (given, alone))
    ifd = [a / b if a is not None and b else None for a, b in zip(nll, base, strict=True)]
    return {"perplexity": -doubts(nll, 0.0), "IFD": -doubts(ifd, 0.0)}


def doubts(confidence: Sequence[float | None], top: float = 1.0) -> np.ndarray:
    """``top`` minus the confidence; an absent one is put at the mean, so that it neither helps nor hurts."""
    values = np.array([np.nan if value is None else top - value for value in confidence], dtype=float)
    return np.where(np.isnan(values), np.nanmean(values) if not np.isnan(values).all() else 0.0, values)


def average_precision(suspicion: np.ndarray, bad: np.ndarray) -> float:
    """Area under the precision-recall curve, in steps; rows of equal suspicion enter together."""
    order = np.argsort(-suspicion, kind="stable")
    ranked, hits = suspicion[order], np.cumsum(bad[order])
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits, seen = hits[last_of_tie], np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(hits, prepend=0) * hits / seen) / bad.sum())


def table(suspicion: Mapping[str, np.ndarray], bad: np.ndarray, mask: np.ndarray, rng_seed: int) -> dict[str, Any]:
    """Average precision with its 95 % interval, and that of its difference to the share of noise (a random ranking)."""
    truth = bad[mask]
    found: dict[str, Any] = {"rows": len(truth), "bad": int(truth.sum()), "signals": {}}
    rng = np.random.default_rng(rng_seed)
    draws = [pick for pick in rng.integers(len(truth), size=(BOOTSTRAPS, len(truth))) if truth[pick].any()]
    for name, values in suspicion.items():
        mine = values[mask]
        again = np.array([average_precision(mine[pick], truth[pick]) for pick in draws])
        over = np.array([a - truth[pick].mean() for a, pick in zip(again, draws, strict=True)])
        found["signals"][name] = {
            "average_precision": round(average_precision(mine, truth), 3),
            "interval_95": [round(float(x), 3) for x in np.quantile(again, [0.025, 0.975])],
            "over_random_95": [round(float(x), 3) for x in np.quantile(over, [0.025, 0.975])],
        }
    return found


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Bins of equal size by confidence: mean confidence, share that is right, rows; and the mean gap (ECE), 0-1."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    rows = [
        {
            "confidence": round(float(confidence[part].mean()), 3),
            "right": round(float(right[part].mean()), 3),
            "rows": len(part),
        }
        for part in parts
    ]
    gap = sum(len(part) * abs(confidence[part].mean() - right[part].mean()) for part in parts) / len(confidence)
    return {"bins": rows, "expected_calibration_error": round(float(gap), 3)}


def reliability_svg(curves: Mapping[str, Mapping[str, Any]], title: str) -> str:
    """Confidence against the share that is right, one line of dots per curve; the diagonal is perfect calibration."""
    size, edge = 320, 44
    colors = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")

    def at(x: float, y: float) -> str:
        return f"{edge + x * size:.1f},{edge + (1 - y) * size:.1f}"

    drawn = [
        f'<rect x="{edge}" y="{edge}" width="{size}" height="{size}" fill="none" stroke="#888"/>',
        f'<polyline points="{at(0, 0)} {at(1, 1)}" fill="none" stroke="#888" stroke-dasharray="4 4"/>',
    ]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = at(tick, tick).split(",")
        drawn.append(f'<text x="{x}" y="{edge + size + 15}" text-anchor="middle">{tick:g}</text>')
        drawn.append(f'<text x="{edge - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for i, (name, curve) in enumerate(curves.items()):
        points = [at(one["confidence"], one["right"]) for one in curve["bins"]]
        drawn.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colors[i]}"/>')
        drawn += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colors[i]}"/>' for p in points]
        label = f"{name} (gap {curve['expected_calibration_error']:.2f})"
        down = edge + size - 10 - 14 * (len(curves) - 1 - i)
        drawn.append(f'<text x="{edge + size - 8}" y="{down}" text-anchor="end" fill="{colors[i]}">{label}</text>')
    middle, bottom = edge + size / 2, edge + size + 32
    drawn.append(
        f'<text x="{middle}" y="{bottom}" text-anchor="middle">confidence in the answer, tenths of the rows</text>'
    )
    drawn.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">share right</text>'
    )
    drawn.append(f'<text x="{middle}" y="24" text-anchor="middle">{title}</text>')
    side = size + 2 * edge
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="{side}" height="{side}" fill="white"/>\n'
        + "\n".join(drawn)
        + "\n</svg>\n"
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds it took."""
    import time

    start = time.perf_counter()
    return work(), time.perf_counter() - start
