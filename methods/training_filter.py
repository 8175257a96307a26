"""Training that passes over what is easy already: a loss threshold first, then a predictor that saves the forward pass too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from backends.protocols import Tuning, Turn
from methods.mixtures.runs import mean_loss
from methods.texts.naive_bayes import GrowingBayes
from schemas.errors import BackendError


@dataclass(frozen=True)
class Course:
    """What a filtered training did; arrays have one entry per row.

    ``learned`` counts the passes in which a row was trained on after the warm-up, ``measured`` its forward passes alone,
    ``skipped`` the passes in which the predictor spared even those. ``loss`` is the first measured one (nats per token,
    NaN for none), ``odds`` the predictor's last word on being hard (nats). ``steps`` counts optimizer steps, warm-up
    included; ``predicted_from`` is how many rows had come when the predictor began to decide, None where it never did.
    ``surprise`` is the predictor's lowest mean surprise over a window up to then, in nats, NaN where no window was full: a coin's
    is 0.693, and who is sure and wrong has more.
    """

    learned: np.ndarray
    measured: np.ndarray
    skipped: np.ndarray
    loss: np.ndarray
    odds: np.ndarray
    threshold: float
    steps: int
    predicted_from: int | None
    surprise: float


@dataclass(frozen=True)
class Plan:
    """How to filter: rows per step, rows of the warm-up, samples in the window, and how sure the predictor must be (nats)."""

    batch: int
    warmup: int
    window: int
    certainty: float


def filtered_training(
    session: Tuning,
    talks: Sequence[Sequence[Turn]],
    texts: Sequence[np.ndarray],
    passes: Sequence[np.ndarray],
    plan: Plan,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Course:
    """Train on ``talks`` in the order of ``passes`` (positions, one array per epoch), leaving out what is easy.

    First the warm-up trains on everything; the mean of its last ``window`` losses is the threshold from then on. Then each
    row is measured and trained on where its loss reaches the threshold, while a naive Bayes over ``texts`` (numbers of the
    words in each) learns which do. Once its mean surprise over a window is at most ``certainty``, rows that it calls easy
    are not even measured. Paper: Ouyang et al. 2023, https://arxiv.org/abs/2207.14386. Raises ``BackendError`` where a
    loss is not finite.
    """
    count, rows = len(talks), np.concatenate([np.asarray(p, dtype=np.int64) for p in passes])
    total = -(-len(rows) // plan.batch)
    size = 1 + max((int(t.max()) for t in texts if len(t)), default=-1)
    bayes, surprise = GrowingBayes(size), list[float]()
    learned, measured, skipped = (np.zeros(count, dtype=np.int64) for _ in range(3))
    first, recent, waiting = np.full(count, np.nan), list[float](), list[int]()
    steps, predicted_from, lowest = 0, None, float("nan")

    def train(some: Sequence[int], number: int) -> list[float]:
        history = session.learn([talks[i] for i in some], epochs=1.0, part=(number, total))
        return [_finite(loss) for loss in history]

    for number in range(total):
        part = rows[number * plan.batch : (number + 1) * plan.batch].tolist()
        seen = number * plan.batch
        tell(min(seen + plan.batch, len(rows)), len(rows))
        if seen < plan.warmup:
            history = train(part, number)
            steps += len(history)
            recent = (recent + [float(np.mean(history))] * len(part))[-plan.window :]
            continue
        threshold = float(np.mean(recent))
        if predicted_from is None and len(surprise) >= plan.window:
            now = float(np.mean(surprise[-plan.window :]))
            lowest = float(np.fmin(lowest, now))
            predicted_from = seen if now <= plan.certainty else None
        odds = bayes.odds([texts[i] for i in part])
        if predicted_from is not None:
            skipped[[i for i, odd in zip(part, odds, strict=True) if odd < 0]] += 1
            part, odds = [i for i, odd in zip(part, odds, strict=True) if odd >= 0], odds[odds >= 0]
        losses = [_finite(mean_loss([one])) for one in session.losses([talks[i] for i in part])] if part else []
        for i, odd, loss in zip(part, odds.tolist(), losses, strict=True):
            hard = loss >= threshold
            measured[i] += 1
            first[i] = loss if np.isnan(first[i]) else first[i]
            surprise.append(float(np.logaddexp(0.0, -odd if hard else odd)))
            bayes.learn(texts[i], hard)
            if hard:
                waiting.append(i)
        while len(waiting) >= plan.batch or (waiting and number == total - 1):
            some, waiting = waiting[: plan.batch], waiting[plan.batch :]
            steps += len(train(some, number))
            learned[some] += 1
    threshold = float(np.mean(recent)) if recent else float("nan")
    return Course(learned, measured, skipped, first, bayes.odds(texts), threshold, steps, predicted_from, lowest)


def word_numbers(texts: Sequence[set[str]], min_texts: int) -> list[np.ndarray]:
    """The words of each text as ascending numbers, int64; words of fewer than ``min_texts`` texts are left out."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in text:
            counts[word] = counts.get(word, 0) + 1
    place = {word: n for n, word in enumerate(sorted(w for w, n in counts.items() if n >= min_texts))}
    return [np.array(sorted(place[w] for w in text if w in place), dtype=np.int64) for text in texts]


def _finite(loss: float | None) -> float:
    if loss is None or not np.isfinite(loss):
        raise BackendError("the proxy's loss is no longer a finite number; lower the tuner's learning_rate")
    return float(loss)
