"""Is the chosen answer of a preference example really the better one? A judge is asked in both orders."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.asking.pairwise import POINTS, Outcome, Pair, Said, both_orders, length_figures, said_of, tally, verdict
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, calls_of, sample
from methods.conversation import texts_of
from methods.keyed import keyed_hashes
from methods.measuring.calibration import calibration, judge_called, own_family
from schemas.examples import VERDICTS, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

_SAME, _WORSE, _TIE, _HALF, _PLACE = "same-answers", "worse-preferred", "tie", "one-order-tie", "position-bias"
_SWAPPED, _UNPARSED, _FAILED = "swapped", "verdict-unparsed", "verdict-call-failed"
_NO_PREFERENCE = (_TIE, _HALF, _PLACE)


class Preference(Prompted, FilterMethod):
    """Keeps preference examples whose chosen answer a judge prefers in both orders; examples without a pair are kept.

    Each pair is asked about twice, the second time with the answers exchanged. Where both orders prefer the other answer
    the example is rejected, or, with ``worse_preferred: swap``, edited: the answers change places, and both texts stay in
    the lineage (pairs of one turn each; a longer answer is rejected). A judge that stays with a place, a tie in one or in
    both orders, and two answers that are the same (not asked about) each have a reason of their own;
    ``no_preference: keep`` keeps all but the last. A verdict that cannot be read, or a call that failed, quarantines.
    The audit reports how often the place decided, whether length went with winning, judge and writers of one family,
    canaries (an answer beside itself must tie), and, where ``label_field`` names human labels, rates and kappa.

    Score: 1 where the chosen answer won, 0 where it lost, 0.5 where neither did; null where no verdict was read.

    Paper: Zheng et al. 2023, Judging LLM-as-a-judge, https://arxiv.org/abs/2306.05685, section 3.4 (swapped positions)
    """

    method: Literal["preference"] = "preference"
    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    speaks: ClassVar[tuple[str, ...]] = ("compare",)

    worse_preferred: Literal["reject", "swap"] = Field(
        "reject", description="what becomes of examples whose other answer won in both orders"
    )
    no_preference: Literal["reject", "keep"] = Field(
        "reject", description="what becomes of ties and of verdicts that change with the order"
    )
    canaries: int = Field(8, ge=0, description="answers that are also compared with themselves")
    written_by: tuple[str, ...] = Field(
        (),
        description="models that wrote the answers: the audit says whether the judge is of their family, by the names",
    )
    label_field: str | None = Field(
        None, description="field of the original rows with a human label (true = the chosen one is better)"
    )
    max_characters: int = Field(6000, ge=100, description="longer prompts and answers are shown by their beginning")
    draw: Draw = Field(Draw(max_tokens=128), description="how verdicts are drawn")

    def rules(self) -> Sequence[Rule]:
        """One rule per way of not being kept."""
        return (
            Rule(name=_SAME, says="the chosen answer and the other one say the same"),
            Rule(name=_WORSE, says="a judge, asked in both orders, prefers the other answer"),
            Rule(name=_SWAPPED, says="a judge, asked in both orders, prefers the other answer: they changed places"),
            Rule(name=_TIE, says="a judge calls the answers equally good in both orders"),
            Rule(name=_HALF, says="a judge prefers an answer in one order and calls it a tie in the other"),
            Rule(name=_PLACE, says="the judge prefers the answer in the same place whichever it is"),
            Rule(name=_UNPARSED, says="a reply of the judge holds no verdict"),
            Rule(name=_FAILED, says="the judge could not be asked"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Two calls a row, and two per canary."""
        calls = 2 * (rows + min(self.canaries, rows))
        return Expected(calls, int(calls * (words * TOKENS_PER_WORD + 70 + self.draw.max_tokens)))

    def reads(self) -> tuple[str, ...]:
        """The conversation, the other answer, how many turns each is, and the field that holds a human label."""
        return ("messages", "worse", "extra")

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; which answers are canaries follows from the seed and the ids of the pairs."""
        pairs = pairs_in(pool, self.max_characters)
        asked = [row for row, pair in pairs.items() if not _same(pair)]
        seed = int(rng.integers(2**31))
        order = np.argsort(keyed_hashes(pool["id"][asked], seed), kind="stable")[: self.canaries]
        birds = [asked[int(i)] for i in order]
        every = [pairs[row] for row in asked] + [_beside_itself(pairs[row]) for row in birds]
        requests = both_orders(every, self.prompt("compare"), self.draw.sampling())
        replies = sample(using.judge, requests, progress=using.progress, note="verdicts")
        said = [(said_of(one), said_of(other)) for one, other in zip(replies[::2], replies[1::2], strict=True)]
        calls = [[call.hex() for call in calls_of(replies[2 * i : 2 * i + 2])] for i in range(len(every))]
        place = {row: i for i, row in enumerate(asked)}
        bird = {row: said[len(asked) + i] for i, row in enumerate(birds)}
        judge = judge_called(using.judge.identity(), replies)
        verdicts: list[dict[str, Any]] = []
        for row, id_ in enumerate(pool["id"]):
            one: dict[str, Any] = dict.fromkeys(VERDICTS) | {"id": id_, "fate": "keep"}
            if row in pairs and row not in place:
                one.update(fate="reject", reason=_SAME, score=0.5)
            elif row in place:
                orders = said[place[row]]
                evidence: dict[str, Any] = {"orders": _told(orders), "judge": judge, "calls": calls[place[row]]}
                if row in bird:
                    evidence["beside_itself"] = _told(bird[row])
                one.update(self._fate(orders, pool, row), evidence=canonical_json(evidence))
            verdicts.append(one)
        return conform(pl.DataFrame(verdicts, schema=dict(VERDICTS)), VERDICTS, "filter/preference")

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """What speaks for and against trusting these verdicts."""
        aligned = pool.join(verdicts.select("id", "score", "reason", "evidence"), on="id", maintain_order="left")
        found = [json.loads(text) if text else None for text in aligned["evidence"].to_list()]
        pairs = pairs_in(pool, self.max_characters)
        rows = [row for row, one in enumerate(found) if one]
        orders = [_heard(one["orders"]) for one in found if one]
        outcomes: list[Outcome] = [verdict(first.verdict, swapped.verdict) for first, swapped in orders]
        judge = next((str(one["judge"]) for one in found if one), "") or "unknown"
        counts = tally(orders, np.random.default_rng(0))
        table: dict[str, Any] = {
            "judge": judge,
            "judge of the writers' own family": own_family(judge, self.written_by),
            "without a pair": pool.height - len(pairs),
            "outcomes": counts.counts,
        }
        if counts.unread:
            table["unread, by class"] = counts.unread
        if counts.flips:
            table["the place decided"] = {name: round(value, 4) for name, value in vars(counts.flips).items()}
            table["which place"] = {"first": counts.first, "second": counts.second}
            table["length"] = length_figures([pairs[row] for row in rows], outcomes)
        birds = [_heard(one["beside_itself"]) for one in found if one and "beside_itself" in one]
        if birds:
            fate = [verdict(first.verdict, swapped.verdict) for first, swapped in birds]
            table["canaries: an answer beside itself"] = {name: fate.count(name) for name in sorted(set(fate))}
        if self.label_field:
            labels = [_label(aligned["extra"][row], self.label_field) for row in rows]
            table["against human labels"] = calibration(labels, [_preferred(one) for one in outcomes])
        return table

    def _fate(self, orders: tuple[Said, Said], pool: pl.DataFrame, row: int) -> dict[str, Any]:
        """Fate, reason, score and successor of one pair that was asked about."""
        first, swapped = (one.verdict for one in orders)
        outcome = verdict(first, swapped)
        if outcome == "unread":
            failure = next(one.failure for one in orders if one.verdict is None)
            return {"fate": "quarantine", "reason": _UNPARSED if failure == "unparsed" else _FAILED}
        score = {"score": POINTS[outcome]}
        if outcome == "win":
            return score
        if outcome == "loss":
            exchanged = swapped_answers(pool, row) if self.worse_preferred == "swap" else None
            if exchanged is None:
                return score | {"fate": "reject", "reason": _WORSE}
            return score | {"fate": "edit", "reason": _SWAPPED, "successor": exchanged}
        reason = _TIE if outcome == "tie" else _PLACE if first == swapped else _HALF
        return score | {"fate": "keep" if self.no_preference == "keep" else "reject", "reason": reason}


def pairs_in(pool: pl.DataFrame, most: int) -> dict[int, Pair]:
    """The pairs of the preference examples by row: the turns before the answer, the chosen one, the other; texts cut."""
    before = pl.max_horizontal(pl.col("messages").list.len().cast(pl.Int64) - _answer_turns(), 0)
    texts = (
        pool.with_row_index("row")
        .filter(pl.col("worse").is_not_null())
        .with_columns(
            pl.col("messages").list.head(before).alias("before"),
            pl.col("messages").list.tail(_answer_turns()).alias("chosen"),
        )
        .select("row", *(texts_of(name).str.head(most) for name in ("before", "chosen", "worse")))
    )
    return {row: Pair(asked, ours, theirs) for row, asked, ours, theirs in texts.iter_rows()}


def swapped_answers(pool: pl.DataFrame, row: int) -> list[dict[str, Any]] | None:
    """The conversation with the other answer in the chosen one's place; None unless both are a single turn."""
    turns, worse = pool["messages"][row].to_list(), pool["worse"][row].to_list()
    many = pool[row].select(_answer_turns()).item()
    if len(worse) != 1 or many != 1:
        return None
    return [*turns[:-1], *worse]


def _answer_turns() -> pl.Expr:
    """How many turns at the end of ``messages`` are the chosen answer, as the reader of the original row noted it."""
    noted = pl.col("extra").str.json_path_match("$._shape.answer_turns").cast(pl.Int64, strict=False)
    return pl.when(noted > 0).then(noted).otherwise(1)


def _same(pair: Pair) -> bool:
    return pair.ours.strip() == pair.theirs.strip()


def _beside_itself(pair: Pair) -> Pair:
    return Pair(pair.prompt, pair.ours, pair.ours)


def _told(orders: tuple[Said, Said]) -> list[str]:
    """Both orders for evidence: ``A``, ``B``, ``tie``, or the class of the failure."""
    return [one.verdict or one.failure or "" for one in orders]


def _heard(told: Sequence[str]) -> tuple[Said, Said]:
    """The way back of `_told`."""
    first, swapped = (Said(text) if text in ("A", "B", "tie") else Said(None, text) for text in told)
    return first, swapped


def _preferred(outcome: Outcome) -> bool | None:
    """Whether the judge finds the chosen answer better; None where it could not be read."""
    return None if outcome == "unread" else outcome == "win"


def _label(extra: str | None, name: str) -> bool | None:
    value = json.loads(extra).get(name) if extra else None
    return value if isinstance(value, bool) else None
