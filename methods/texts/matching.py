"""Decontamination as index → pairs → rule → policy: what all methods share that compare turns with benchmark items.

``entries`` lists the items of all benchmarks, ``turns`` the turns of all examples. A method indexes the entries once and
turns turns into PAIRS: a turn, an item, how close, and whether a rule flags it. `verdicts_of` is the policy: one fate per
example, its evidence naming benchmark, item, rule and the matched span in both texts.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl

from methods.conversation import turns_of
from methods.texts.spans import Span, matched_spans
from methods.verdicts import keep_or_reject
from schemas.errors import UsageError
from schemas.identity import canonical_json
from schemas.method import DecontaminateMethod, Using

#: One row per pair of a turn and an item; ``turn`` counts in ``messages``, or in ``worse`` where ``worse`` is true;
#: ``entry`` is the item's place in ``entries``; ``coverage`` is how close the two are, higher is closer.
PAIRS: Mapping[str, type[pl.DataType]] = {
    "row": pl.Int64, "turn": pl.Int64, "worse": pl.Boolean, "field": pl.String, "entry": pl.Int64, "rule": pl.String,
    "coverage": pl.Float64, "flagged": pl.Boolean,
}  # fmt: skip

Field_ = Literal["prompt", "answer"]

#: Turns of a batch of examples (`turns`) to PAIRS; made once per set of benchmarks.
Matcher = Callable[[pl.DataFrame], pl.DataFrame]


_ORDER = ["row", "entry", "field", "worse", "turn", "rule"]


class PairMethod(DecontaminateMethod):
    """A method that flags pairs of a turn and an item, each example by itself: any split of a pool gives the same."""

    per_example: ClassVar[bool] = True

    #: What evidence calls the closeness of a pair, and how many of the closest items it lists besides.
    closeness: ClassVar[str] = "coverage"
    nearest: ClassVar[int] = 0

    @abstractmethod
    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """The index over ``items`` (`entries`), as a function from turns to PAIRS."""

    @abstractmethod
    def run_words(self, rule: str) -> int:
        """The shortest run of equal words that evidence of this rule shows as a matched span."""

    def judge(
        self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `DecontaminateMethod`; draws no number."""
        return self.judge_batches(benchmarks, using)(pool)[0]

    def judge_batches(
        self, benchmarks: Mapping[str, pl.DataFrame], using: Using
    ) -> Callable[[pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]]:
        """``judge`` with the index built once: VERDICTS and flagged PAIRS of any number of batches, from any thread."""
        items = entries(benchmarks)
        match = self.matcher(items, using)

        def judged(pool: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
            said = turns(pool)
            pairs = match(said)
            return verdicts_of(self, pool["id"], said, items, pairs), pairs.filter("flagged").sort(_ORDER)

        return judged

    def pairs(self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], using: Using = Using()) -> pl.DataFrame:
        """Every pair of a turn and an item that were compared, flagged or not: PAIRS, ``benchmark`` and ``item``."""
        items = entries(benchmarks)
        named = items.select("benchmark", "item").with_row_index("entry").with_columns(pl.col("entry").cast(pl.Int64))
        return self.matcher(items, using)(turns(pool)).join(named, on="entry", maintain_order="left")


def entries(benchmarks: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """All items of all benchmarks, columns ``benchmark``, ``item``, ``prompt``, ``answer``, in the order of the names.

    Raises ``UsageError`` when there is no benchmark or none of them has an item: nothing can be certified against that.
    """
    frames = [
        frame.select(
            pl.lit(name).alias("benchmark"),
            pl.col("item").cast(pl.String),
            pl.col("prompt").cast(pl.String).fill_null(""),
            (pl.col("answer") if "answer" in frame.columns else pl.lit(None)).cast(pl.String).alias("answer"),
        )
        for name, frame in sorted(benchmarks.items())
    ]
    found = pl.concat(frames) if frames else pl.DataFrame()
    if not found.height:
        raise UsageError(
            f"benchmarks hold no items ({', '.join(sorted(benchmarks)) or 'none given'}); name at least one"
        )
    return found


def turns(pool: pl.DataFrame) -> pl.DataFrame:
    """All turns of all examples, of the other answer of preference examples too: `turns_of` and ``worse``."""
    first = turns_of(pool).with_columns(pl.lit(False).alias("worse"))
    return pl.concat([first, turns_of(pool, "worse").with_columns(pl.lit(True).alias("worse"))])


def heard(said: pl.DataFrame, field: Field_, *, everywhere: bool = False) -> pl.DataFrame:
    """The turns in which a field of the items is looked for: answers in assistant turns, prompts in all others."""
    return said if everywhere else said.filter((pl.col("role") == "a") == (field == "answer"))


def pair_rows(
    said: pl.DataFrame, text: np.ndarray, field: str, item: np.ndarray, rule: np.ndarray, closeness: np.ndarray,
    flagged: np.ndarray,
) -> pl.DataFrame:  # fmt: skip
    """PAIRS from parallel arrays; ``text`` are row positions in ``said``."""
    columns = {"entry": item, "rule": rule, "coverage": closeness, "flagged": flagged}
    where = said.select("row", "turn", "worse")[text].with_columns(pl.lit(field).alias("field"))
    found = where.with_columns(**{k: pl.Series(k, v) for k, v in columns.items()})
    return found.select(pl.col(name).cast(kind) for name, kind in PAIRS.items())


def no_pairs() -> pl.DataFrame:
    """PAIRS of nothing."""
    return pl.DataFrame(schema=PAIRS)


def verdicts_of(
    method: PairMethod, ids: pl.Series, said: pl.DataFrame, items: pl.DataFrame, pairs: pl.DataFrame
) -> pl.DataFrame:
    """VERDICTS of the examples: rejected by the strongest rule, then the closest item, of those that flagged a pair.

    The score is the largest closeness to any item; the order of rules is that of ``method.rules()``.
    """
    order = {rule.name: i for i, rule in enumerate(method.rules())}
    best = (
        pairs.filter("flagged")
        .with_columns(pl.col("rule").replace_strict(order, return_dtype=pl.Int64).alias("order"))
        .sort(
            "row", "order", "coverage", "entry", "field", "worse", "turn",
            descending=[False, False, True] + [False] * 4,
        )
    )  # fmt: skip
    count = dict(best.group_by("row").agg(pl.col("entry").n_unique()).iter_rows())
    best = best.unique("row", keep="first", maintain_order=True)
    near = _nearest(pairs, items, best["row"], method)
    reason: list[str | None] = [None] * len(ids)
    evidence: list[str | None] = [None] * len(ids)
    for hit, spans, quote in located(method, best, said, items):
        row = hit["row"]
        reason[row] = hit["rule"]
        evidence[row] = canonical_json(
            named(hit, items)
            | near.get(row, {})
            | {
                method.closeness: round(hit["coverage"], 4),
                "spans": [{"text": list(s.text), "item": list(s.item)} for s in spans[:8]],
                "quote": quote,
                "items": count[row],
            }
        )  # fmt: skip
    closest = np.zeros(len(ids))
    np.maximum.at(closest, pairs["row"].to_numpy(), pairs["coverage"].to_numpy())
    return keep_or_reject(ids, reason, score=closest, evidence=evidence)


def named(hit: Mapping[str, Any], items: pl.DataFrame) -> dict[str, Any]:
    """What evidence says of a pair (a row of PAIRS): benchmark, item, field, turn, and in which answer."""
    return {
        "benchmark": items["benchmark"][hit["entry"]],
        "item": items["item"][hit["entry"]],
        "field": hit["field"],
        "turn": hit["turn"],
        "in": "worse" if hit["worse"] else "messages",
    }


def _nearest(
    pairs: pl.DataFrame, items: pl.DataFrame, rows: pl.Series, method: PairMethod
) -> dict[int, dict[str, list[dict[str, Any]]]]:
    """For each of the rows the items closest to it, where the method wants them told."""
    if not method.nearest:
        return {}
    best = pairs.filter(pl.col("row").is_in(rows.implode())).group_by("row", "entry").agg(pl.col("coverage").max())
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for row, entry, coverage in best.sort("row", "coverage", "entry", descending=[False, True, False]).iter_rows():
        listed = found.setdefault(row, {"nearest": []})["nearest"]
        if len(listed) < method.nearest:
            one = {"benchmark": items["benchmark"][entry], "item": items["item"][entry]}
            listed.append(one | {method.closeness: round(coverage, 4)})
    return found


def located(
    method: PairMethod, best: pl.DataFrame, said: pl.DataFrame, items: pl.DataFrame
) -> list[tuple[dict[str, Any], list[Span], str]]:
    """Each flagged row of PAIRS with its matched spans and what the text says in the longest."""
    hits = best.join(said.select("row", "turn", "worse", "content"), on=["row", "turn", "worse"], maintain_order="left")
    wanted = [items[field][entry] for field, entry in hits.select("field", "entry").iter_rows()]
    hits = hits.with_columns(pl.Series("wanted", wanted, dtype=pl.String))
    found: list[tuple[dict[str, Any], list[Span], str]] = []
    for rule in method.rules():
        mine = hits.filter(pl.col("rule") == rule.name)
        spans_of = matched_spans(mine["content"], mine["wanted"], method.run_words(rule.name))
        for hit, spans in zip(mine.iter_rows(named=True), spans_of, strict=True):
            longest = max(spans, key=lambda span: span.words, default=None)
            quote = hit["content"][slice(*longest.text)][:160] if longest else ""
            found.append((hit, spans, quote))
    return found
