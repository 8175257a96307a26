"""Does a judge prefer what the trained model answers? To the untuned model's answers, and to the references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import LLM
from methods.asking.pairwise import POINTS, Pair, Said, both_orders, length_figures, said_of, tally, verdict
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, calls_of, sample
from methods.conversation import as_turns, teaches
from methods.measuring.calibration import same_family
from methods.stats import Interval, wilson
from schemas.examples import prompt_text
from schemas.method import TOKENS_PER_WORD, Expected, Progress, silent

Side = Literal["base", "reference"]

#: Score column of each metric: 1 = preferred in both orders, 0 = the other one is, 0.5 = neither.
WIN_COLUMNS: Mapping[str, str] = {"win-rate-base": "win_base", "win-rate-reference": "win_reference"}

#: A verdict per compared pair: the evaluation's ``sidecar/verdicts``.
VERDICT_COLUMNS: Mapping[str, Any] = {
    "id": pl.Binary,
    "ours": pl.String,  # tuned or base
    "theirs": pl.String,  # base or reference
    "first": pl.String,  # said when ours was shown first: A (ours), B, tie
    "swapped": pl.String,  # said when theirs was shown first: B is ours
    "failure": pl.String,  # class of the order that could not be read
    "outcome": pl.String,
    "ours_characters": pl.Int64,
    "theirs_characters": pl.Int64,
    "calls": pl.List(pl.Binary),
}


class PairwiseJudge(Prompted):
    """Shows a judge two answers in both orders; only what is preferred in both wins. Rates lie in 0 to 1, 0.5 is even.

    The trained model's answers stand against the untuned model's, and both models' against the reference where an
    example has one. Pairs that cannot be read are counted by class and left out; equal answers tie without a call.

    Paper: Zheng et al. 2023, Judging LLM-as-a-judge, https://arxiv.org/abs/2306.05685, sections 3.3 and 3.4
    """

    stage: ClassVar[str] = "evaluate"
    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    speaks: ClassVar[tuple[str, ...]] = ("compare",)

    method: Literal["pairwise"] = "pairwise"
    against: tuple[Side, ...] = Field(
        default=("base", "reference"),
        min_length=1,
        description="what the trained model's answers are compared with: the untuned model's, and the references",
    )
    max_examples: int = Field(default=200, gt=0, description="the first so many of the evaluated examples are judged")
    max_characters: int = Field(
        default=6000, ge=100, description="longer prompts and answers are shown by their beginning"
    )
    draw: Draw = Field(default=Draw(max_tokens=96), description="how verdicts are drawn")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two per comparison: against the base one per example, against the reference one for each model."""
        calls = 2 * min(rows, self.max_examples) * (("base" in self.against) + 2 * ("reference" in self.against))
        return Expected(calls, int(calls * (words * TOKENS_PER_WORD + 90 + self.draw.max_tokens)))


@dataclass(frozen=True)
class Names:
    """The judge and the model that was trained, as their configs call them: a family is told by a name."""

    judge: str = ""
    writer: str = ""


@dataclass(frozen=True)
class Judged:
    """``columns``: points per example, in order (null where not judged); ``verdicts``: `VERDICT_COLUMNS`; ``notes``: one
    mapping per comparison with counts, rates and what speaks against them.
    """

    columns: pl.DataFrame
    verdicts: pl.DataFrame
    notes: tuple[Mapping[str, Any], ...]


def judged(
    examples: pl.DataFrame,
    replies: Sequence[str | None],
    base_replies: Sequence[str | None] | None,
    how: PairwiseJudge,
    judge: LLM,
    *,
    rng: np.random.Generator,
    names: Names = Names(),
    progress: Progress = silent,
) -> Judged:
    """Verdicts over ``examples`` (EXAMPLES columns) for the trained model's replies and the untuned model's, in order.

    A null reply is one that failed; without ``base_replies`` nothing is compared with the base.
    """
    sides: dict[str, Sequence[str | None]] = {"tuned": replies, "reference": _references(examples)}
    if base_replies is not None:
        sides["base"] = base_replies
    compared = [
        (ours, theirs, column)
        for ours, theirs, column in _COMPARED
        if theirs in how.against and ours in sides and theirs in sides
    ]
    prompts = examples.select(asked=prompt_text().fill_null(""))["asked"].to_list()[: how.max_examples]
    columns: list[pl.Series] = []
    frames: list[pl.DataFrame] = []
    notes: list[Mapping[str, Any]] = []
    for ours, theirs, column in compared:
        found = {
            row: Pair(asked[: how.max_characters], a[: how.max_characters], b[: how.max_characters])
            for row, (asked, a, b) in enumerate(zip(prompts, sides[ours], sides[theirs], strict=False))
            if a is not None and b is not None
        }
        pairs = list(found.values())
        heard = _heard(pairs, how, judge, progress, f"{ours} against {theirs}")
        outcomes = [verdict(one.first.verdict, one.swapped.verdict) for one in heard]
        points = dict(zip(found, (POINTS.get(outcome) for outcome in outcomes), strict=True))
        columns.append(pl.Series(column, [points.get(row) for row in range(examples.height)], dtype=pl.Float64))
        rows = [
            (
                examples["id"][row], ours, theirs, one.first.verdict, one.swapped.verdict,
                one.first.failure or one.swapped.failure, outcome, len(pair.ours), len(pair.theirs), one.calls,
            )
            for (row, pair), one, outcome in zip(found.items(), heard, outcomes, strict=True)
        ]  # fmt: skip
        frames.append(pl.DataFrame(rows, schema=dict(VERDICT_COLUMNS), orient="row"))
        notes.append(
            {
                "ours": ours,
                "theirs": theirs,
                "not_compared": len(prompts) - len(pairs),
                **_figures(pairs, heard, rng),
                "judge": names.judge,
                "own_family": same_family(names.judge, names.writer),
            }
        )
    return Judged(
        pl.DataFrame(columns),
        pl.concat(frames) if frames else pl.DataFrame(schema=dict(VERDICT_COLUMNS)),
        tuple(notes),
    )


#: Ours, theirs, and the score column that holds ours' points.
_COMPARED = (
    ("tuned", "base", "win_base"),
    ("tuned", "reference", "win_reference"),
    ("base", "reference", "before_win_reference"),
)


@dataclass(frozen=True)
class _Heard:
    """Both orders of one pair; ``calls`` is empty where the answers are equal and nothing was asked."""

    first: Said
    swapped: Said
    calls: list[bytes]


def _references(examples: pl.DataFrame) -> list[str | None]:
    """The last turn of each example where it is an answer, else null."""
    talks = [as_turns(messages) for messages in examples["messages"].to_list()]
    return [talk[-1].content if teaches(talk) else None for talk in talks]


def _heard(pairs: Sequence[Pair], how: PairwiseJudge, judge: LLM, progress: Progress, note: str) -> list[_Heard]:
    """What the judge says of each pair; equal answers are a tie that nobody is asked about."""
    unequal = [pair for pair in pairs if pair.ours.strip() != pair.theirs.strip()]
    requests = both_orders(unequal, how.prompt("compare"), how.draw.sampling())
    replies = iter(sample(judge, requests, progress=progress, note=f"judging {note}"))
    heard: list[_Heard] = []
    for pair in pairs:
        if pair.ours.strip() == pair.theirs.strip():
            heard.append(_Heard(Said("tie"), Said("tie"), []))
        else:
            two = [next(replies), next(replies)]
            heard.append(_Heard(said_of(two[0]), said_of(two[1]), calls_of(two)))
    return heard


def _figures(pairs: Sequence[Pair], heard: Sequence[_Heard], rng: np.random.Generator) -> dict[str, Any]:
    """Counts, the rate and what speaks for and against trusting it, as JSON values."""
    orders = [(one.first, one.swapped) for one in heard]
    found = tally(orders, rng)
    equal = [pair.ours.strip() == pair.theirs.strip() for pair in pairs]
    asked = tally([order for order, same in zip(orders, equal, strict=True) if not same], rng)
    outcomes = [verdict(first.verdict, swapped.verdict) for first, swapped in orders]
    return {
        "counts": found.counts,
        "equal_answers": sum(equal),
        "unread": found.unread,
        "rate": _rounded(found.rate),
        "flips": _rounded(asked.flips),
        "stayed_first": asked.first,
        "stayed_second": asked.second,
        "length": length_figures(pairs, outcomes),
    }


def _rounded(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {name: round(value, 4) for name, value in vars(interval).items()}


def told(note: Mapping[str, Any]) -> list[str]:
    """One comparison's note in sentences: counts first, then what a reader needs to trust the rate or not."""
    counts, length = note["counts"], note["length"]
    unread = ", ".join(f"{name} {count}" for name, count in note["unread"].items())
    lines = [
        f"{note['judge'] or 'The judge'} on {note['ours']} against {note['theirs']}: {counts['win']} won, "
        f"{counts['loss']} lost, {counts['tie']} tied ({note['equal_answers']} with equal answers), "
        f"{counts['inconsistent']} inconsistent, {counts['unread']} unread{f' ({unread})' if unread else ''}"
    ]
    decided = counts["win"] + counts["loss"]
    if decided:
        share = wilson(counts["win"], decided)
        lines.append(
            f"of the {decided} decided pairs it won {100 * share.estimate:.0f} % "
            f"(95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %)"
        )
    elif note["rate"]:
        lines.append("no pair was decided: the rate of one half says nothing")
    if flips := note["flips"]:
        lines.append(
            f"{100 * flips['estimate']:.0f} % of verdicts stayed with the place when the answers changed theirs "
            f"(first {note['stayed_first']}, second {note['stayed_second']})"
        )
    if length["decided"]:
        lines.append(
            f"mean length {length['ours_characters']:.0f} against {length['theirs_characters']:.0f} characters; "
            f"the longer answer won {length['longer_won']} of {length['decided']} decided pairs"
        )
    family = {
        True: "the judge is of the trained model's own family and may prefer it",
        False: "the judge is of another family than the trained model",
        None: "whether the judge is of the trained model's family cannot be told by their names",
    }
    return [*lines, family[note["own_family"]]]
