"""What does a model do on examples it was not trained on? Loss, exact match, ROUGE-L, pass@k, a judge's preference.

Per slice, with intervals.

A method over the `LLM` protocol: any engine that scores and replies can be measured, and the untuned model beside it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from backends.protocols import LLM, Reply, Request, Sampling, Sandbox, ScoreRequest
from methods.conversation import as_turns
from methods.measuring.pass_at_k import checked_metrics, drawn_for, pass_rates
from methods.measuring.preferred import WIN_COLUMNS, Judged, Names, PairwiseJudge, judged
from methods.texts.metrics import exact_match, rouge_l_f1, rouge_tokens
from schemas.errors import EmptyStage, UsageError
from schemas.method import Progress, silent
from schemas.training import EvalReport, Measured

MetricName = Literal["loss", "exact-match", "rouge-l", "pass@k", "pairwise"]

#: Resamples behind every interval.
RESAMPLES = 1000

#: Before the name of an original field whose values are slices, so that its column meets none of ours.
FIELD = "field "

#: The class of examples that pass@k leaves out.
NO_TESTS = "no-tests"

#: A column with more values than this gets lines for its most frequent ones only.
SLICES = 50

_BATCH = 64
_CELLS = 4_000_000  # of one block of drawn counts: 32 MB


@dataclass(frozen=True)
class EvalResult:
    """The report, and a row per example: ``id``, ``source``, ``n_tokens``, ``loss`` (nats per token), ``reply``,
    ``exact_match``, ``rouge_l``, ``win_base``, ``win_reference``, and the same with ``before_`` in front for the
    baseline. Null = not measured. ``judged`` holds a judge's verdicts and what speaks for and against them.
    """

    report: EvalReport
    examples: pl.DataFrame
    judged: Judged | None = None


def evaluate(
    llm: LLM,
    examples: pl.DataFrame,
    *,
    rng: np.random.Generator,
    metrics: Sequence[MetricName] = ("loss",),
    slices: Sequence[str] = ("source",),
    baseline: LLM | None = None,
    max_new_tokens: int = 64,
    progress: Progress = silent,
    sandbox: Sandbox | None = None,
    k: int = 1,
    samples: int | None = None,
    pairwise: PairwiseJudge = PairwiseJudge(),
    judge: LLM | None = None,
    names: Names = Names(),
) -> EvalResult:
    """Measures ``llm`` (and ``baseline``, the untuned model) on ``examples`` (EXAMPLES columns).

    - ``loss``: mean negative log-likelihood per token of every assistant turn given the turns before it, in nats,
      tokens weighted equally; lower is better.
    - ``exact-match`` and ``rouge-l``: 0 to 1, of the greedy reply of at most ``max_new_tokens`` tokens to the prompt of
      the last turn, against that turn; higher is better.

    - ``pass@k``: 0 to 1, the chance that one of ``k`` programs passes the example's tests (its original row's ``tests``),
      from ``samples`` replies run in ``sandbox``; higher is better. Examples without tests are not measured.

    - ``pairwise``: ``win-rate-base`` and ``win-rate-reference``, 0 to 1 with 0.5 for even, of the same greedy replies by
      ``judge`` (see `PairwiseJudge`); a judge that cannot be read is counted and left out.

    ``slices`` are columns; each of their values gets a line of its own, unless all are null. Raises ``EmptyStage``
    without examples, ``CannotScore`` where the engine gives no log-probabilities.
    """
    if examples.is_empty():
        raise EmptyStage("there is no example to evaluate on; give a target source that has some")
    checked_metrics(metrics, sandbox)
    if "pairwise" in metrics and judge is None:
        raise UsageError("metric pairwise asks a judge; give `backends: {judge: …}` or `llm`")
    texts = [name for name in metrics if name not in ("loss", "pass@k")]
    runs = [("", llm)] + ([("before_", baseline)] if baseline is not None else [])
    passes = len(runs) * (("loss" in metrics) + bool(texts) + ("pass@k" in metrics))
    watched = _Steps(progress, total=passes * examples.height)
    frame = examples.select("id", *dict.fromkeys(["source", *slices]))
    unscored: Counter[str] = Counter()
    truncated = 0
    for prefix, engine in runs:
        if "loss" in metrics:
            losses = answer_losses(engine, examples, watched)
            frame = frame.with_columns(losses.select(pl.all().name.prefix(prefix)))
            if not prefix:
                truncated = int(losses["truncated"].sum())
                unscored.update(losses["failure"].drop_nulls().to_list())
        if sandbox is not None and "pass@k" in metrics:
            drawn = drawn_for(k, samples)
            rates = pass_rates(
                engine, examples, sandbox, k=k, samples=drawn, max_new_tokens=max_new_tokens, progress=watched
            )
            frame = frame.with_columns(pl.Series(f"{prefix}pass_at_k", rates, dtype=pl.Float64))
            if not prefix and None in rates:
                unscored[NO_TESTS] += rates.count(None)
        if texts:
            frame = frame.with_columns(_replies(engine, examples, max_new_tokens, watched, prefix))
            if not prefix:
                unscored.update(frame["reply_failure"].drop_nulls().to_list())
    ruled: Judged | None = None
    if judge is not None and "pairwise" in metrics:
        before = frame["before_reply"].to_list() if baseline is not None else None
        ruled = judged(
            examples, frame["reply"].to_list(), before, pairwise, judge, rng=rng, names=names, progress=progress
        )
        frame = frame.with_columns(ruled.columns.get_columns())
    report = EvalReport(
        model=llm.identity(),
        baseline=None if baseline is None else baseline.identity(),
        examples=examples.height,
        unscored=dict(unscored),
        truncated=truncated,
        measured=tuple(_measured(frame, metrics, slices, rng)),
    )
    return EvalResult(report, frame, ruled)


def answer_losses(llm: LLM, examples: pl.DataFrame, progress: Callable[[int, str], None] | None = None) -> pl.DataFrame:
    """Per example, in order: ``loss`` (nats per token), ``n_tokens``, ``truncated``, ``failure`` (null where scored)."""
    asked = [_assistant_turns(messages) for messages in examples["messages"].to_list()]
    rows: list[dict[str, Any]] = []
    for start in range(0, len(asked), _BATCH):
        group = asked[start : start + _BATCH]
        scored = iter(llm.logprobs([request for requests in group for request in requests]))
        for requests in group:
            rows.append(_loss_row([next(scored) for _ in requests]))
        if progress:
            progress(len(group), "scoring")
    kinds = {"loss": pl.Float64, "n_tokens": pl.Int64, "truncated": pl.Boolean, "failure": pl.String}
    return pl.DataFrame(rows, schema=kinds)


def _assistant_turns(messages: Sequence[Mapping[str, Any]]) -> list[ScoreRequest]:
    turns = as_turns(messages)
    return [
        ScoreRequest(completion=turn.content, messages=tuple(turns[:k]))
        for k, turn in enumerate(turns)
        if turn.role == "assistant" and k
    ]


def _loss_row(scored: Sequence[Any]) -> dict[str, Any]:
    failure = next((one.failure for one in scored if one.failure), None)
    count = sum(one.n_tokens for one in scored)
    if failure is None and not count:
        failure = "empty"
    return {
        "loss": None if failure else -sum(one.sum_logprob for one in scored) / count,
        "n_tokens": 0 if failure else count,
        "truncated": any(one.truncated for one in scored),
        "failure": failure,
    }


def _replies(
    llm: LLM, examples: pl.DataFrame, max_new_tokens: int, progress: Callable[[int, str], None], prefix: str
) -> list[pl.Series]:
    """Greedy replies and how they compare; a reply that failed is null in every column but its failure."""
    sampling = Sampling(max_tokens=max_new_tokens, temperature=0.0)
    last = [(_assistant_turns(messages) or [None])[-1] for messages in examples["messages"].to_list()]
    replies: list[Reply] = []
    for start in range(0, len(last), _BATCH):
        group = last[start : start + _BATCH]
        asked = [Request(messages=turn.messages, sampling=sampling) for turn in group if turn]
        answers = iter(llm.generate(asked))
        replies += [next(answers) if turn else Reply(failure="empty") for turn in group]
        progress(len(group), "replying")
    wanted = [turn.completion if turn else "" for turn in last]
    both = list(zip(replies, wanted, strict=True))
    return [
        pl.Series(f"{prefix}reply", [r.text if r.ok else None for r in replies], dtype=pl.String),
        pl.Series(f"{prefix}reply_failure", [r.failure for r in replies], dtype=pl.String),
        pl.Series(
            f"{prefix}exact_match", [float(exact_match(r.text, w)) if r.ok else None for r, w in both], dtype=pl.Float64
        ),
        pl.Series(
            f"{prefix}rouge_l",
            [rouge_l_f1(rouge_tokens(r.text), rouge_tokens(w)) if r.ok else None for r, w in both],
            dtype=pl.Float64,
        ),
    ]


#: Column of an evaluation's scores that holds each metric per example.
SCORE_COLUMNS: Mapping[str, str] = {
    "loss": "loss",
    "exact-match": "exact_match",
    "rouge-l": "rouge_l",
    "pass@k": "pass_at_k",
    **WIN_COLUMNS,
}


def _measured(
    frame: pl.DataFrame, metrics: Sequence[str], slices: Sequence[str], rng: np.random.Generator
) -> list[Measured]:
    names = [name for name in metrics if name != "pairwise"]
    names += [name for name, column in WIN_COLUMNS.items() if column in frame.columns]
    parts: list[tuple[str, pl.DataFrame]] = [("all", frame)]
    for column in slices:
        values = sorted(
            frame[column].value_counts(sort=True).head(SLICES)[column].to_list(), key=lambda v: (v is None, v)
        )
        if values != [None]:
            label = column.removeprefix(FIELD)
            parts += [(f"{label}={value}", frame.filter(pl.col(column).eq_missing(value))) for value in values]
    return [_measure(part, metric, name, rng) for metric in names for name, part in parts]


def _measure(part: pl.DataFrame, metric: str, name: str, rng: np.random.Generator) -> Measured:
    column = SCORE_COLUMNS[metric]
    paired = f"before_{column}" in part.columns
    both = [column, f"before_{column}"] if paired else [column]
    known = part.filter(pl.all_horizontal(pl.col(c).is_not_null() for c in both))
    if known.is_empty():
        return Measured(metric=metric, slice=name, examples=0, value=None)
    weight = known["n_tokens"].to_numpy().astype(np.float64) if metric == "loss" else np.ones(known.height)
    columns = [known[c].to_numpy() for c in both]
    draws = bootstrap(columns, weight, rng)
    low, high = interval(draws[:, 0])
    now = weighted(columns[0], weight)
    measured = Measured(metric=metric, slice=name, examples=known.height, value=now, low=low, high=high)
    if not paired:
        return measured
    was = weighted(columns[1], weight)
    before_low, before_high = interval(draws[:, 1])
    change_low, change_high = interval(draws[:, 0] - draws[:, 1])
    return measured.model_copy(
        update={
            **{"before": was, "before_low": before_low, "before_high": before_high},
            **{"change": now - was, "change_low": change_low, "change_high": change_high},
        }
    )


def weighted(values: np.ndarray, weight: np.ndarray) -> float:
    """Weighted mean."""
    return float((values * weight).sum() / weight.sum())


def bootstrap(columns: Sequence[np.ndarray], weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weighted means of each column over RESAMPLES samples of examples with replacement, shape (RESAMPLES, columns).

    A sample draws the same examples for every column, so differences between columns are paired.
    """
    count = len(weight)
    sums = np.stack([*(values * weight for values in columns), weight], axis=1)
    means = np.empty((RESAMPLES, len(columns)))
    chunk = max(1, _CELLS // count)
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=size) @ sums
        means[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return means


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


class _Steps:
    """Counts passes over examples into one bar."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, count: int, note: str) -> None:
        self._done += count
        self._progress(self._done, self._total, note)
