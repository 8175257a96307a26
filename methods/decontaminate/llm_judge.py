"""Is an example a rephrased benchmark item? Embeddings or weighted words bring up candidates, a language model decides."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import FailureClass
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.decontaminate._candidates import Blocks, ClosestTurns, comparable, cosine_blocks
from methods.decontaminate._rephrase import Ruling, rulings
from methods.decontaminate._tf_idf import TfIdf
from methods.keyed import keyed_hashes
from methods.needs import needed
from methods.texts.matching import entries, heard, turns
from methods.texts.spans import matched_spans
from schemas.examples import VERDICTS, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, DecontaminateMethod, Expected, Using

_RULE = "rephrased"
_UNDECIDED = "undecided-"
_SPAN = 3  # words: shorter runs are no evidence for a reader
_TURNS = 4096  # looked at at once

Measure = Literal["embedding", "tf-idf"]


class LlmJudge(Prompted, DecontaminateMethod):
    """Drops examples that a language model finds to pose the same problem as a benchmark item.

    For every item the ``candidates`` closest user, system or tool turns of the pool are judged, if their cosine reaches
    ``min_cosine``; of an example that is a candidate of many items, the ``items_per_example`` closest. Closest by embeddings,
    by TF-IDF of words (``closest_by: [tf-idf]`` needs no embedder), or by both, each bringing up its own. Each pair is asked
    about in both orders: two yes drop the example, two no clear the pair. What is undecided is a class of its own, never a
    default: the orders disagree (``split``), a reply cannot be read (``unparsed``), a call failed (by its class); such
    examples are quarantined, or kept where ``undecided`` says so. An example that is no candidate is kept.
    Both texts stand between marks that they cannot close, and are cut at ``most_characters``.

    Score: the largest share of yes over the pairs of an example, 0, 0.5 or 1, lower is better; null where none was judged.

    Paper: Yang et al. 2023, Rethinking benchmark and contamination for language models with rephrased samples,
    https://arxiv.org/abs/2311.04850, section 5 (LLM Decontaminator). Departures: both orders, five candidates instead of
    one, a failed call is not a no, one question for all kinds of benchmarks.
    """

    method: Literal["llm-judge"] = "llm-judge"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = needed(
        {"embed", "judge"}, lambda method: {"judge", "embed"} if "embedding" in method.closest_by else {"judge"}
    )
    speaks: ClassVar[tuple[str, ...]] = ("same-problem",)

    candidates: int = Field(5, ge=1, le=100, description="turns judged per item, the closest ones")
    closest_by: tuple[Measure, ...] = Field(
        ("embedding",), min_length=1, max_length=2, description="cosine of embeddings, of TF-IDF vectors, or both"
    )
    min_cosine: float = Field(0.5, ge=-1, le=1, description="by embeddings: turns farther from the item are not judged")
    min_tf_idf: float = Field(0.15, ge=0, le=1, description="by TF-IDF: turns farther from the item are not judged")
    items_per_example: int = Field(3, ge=1, description="items an example is judged against, the closest ones")
    min_words: int = Field(5, ge=1, description="shorter turns and items are not compared")
    undecided: Literal["quarantine", "keep"] = Field("quarantine", description="what becomes of undecided examples")
    most_characters: int = Field(4000, ge=100, description="characters of each text that the judge sees")
    draw: Draw = Field(Draw(max_tokens=160), description="how replies are drawn")

    def rules(self) -> Sequence[Rule]:
        """``rephrased``, and one rule per way of being undecided."""
        says = "a language model, asked in both orders, finds that a turn poses the same problem as a benchmark item"
        return (Rule(name=_RULE, says=says), *(_undecided(name) for name in _CLASSES))

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """``rephrased`` with how many pairs were judged and how the rulings fell, and the classes that occurred."""
        evidence = verdicts["evidence"].drop_nulls()
        counts: Counter[str] = Counter()
        for found in evidence.str.json_decode(_JUDGED).to_list():
            counts.update(one["verdict"] for one in found["judged"] or ())
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no pair came near enough"
        first, *others = self.rules()
        met = set(verdicts["reason"].drop_nulls())
        return (
            first.model_copy(update={"says": f"{first.says}; rulings on pairs: {told}"}),
            *(rule for rule in others if rule.name in met),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most two calls for each of an example's items; far fewer where few turns come near an item."""
        calls = 2 * self.items_per_example * rows * len(set(self.closest_by))
        return Expected(calls, round(calls * (2 * words * TOKENS_PER_WORD + 120 + self.draw.max_tokens)))

    def judge(
        self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """See `DecontaminateMethod`; draws no number."""
        items = entries(benchmarks)
        pairs = self.candidate_pairs(pool, items, using)
        asked = list(zip(pairs["prompt"], pairs["content"], strict=True))
        said = rulings(using.judge, asked, self.prompt("same-problem"), self.draw, self.most_characters, using.progress)
        of_row: dict[int, list[tuple[dict[str, Any], Ruling]]] = {}
        for pair, ruling in zip(pairs.iter_rows(named=True), said, strict=True):
            of_row.setdefault(pair["row"], []).append((pair, ruling))
        verdicts = [self._verdict(id_, of_row.get(row, [])) for row, id_ in enumerate(pool["id"])]
        return conform(pl.DataFrame(verdicts, schema=dict(VERDICTS)), VERDICTS, "verdicts of llm-judge")

    def candidate_pairs(self, pool: pl.DataFrame, items: pl.DataFrame, using: Using) -> pl.DataFrame:
        """The pairs to be judged: row, turn, worse, content, entry, ``cosine``, ``closest_by`` and the item's columns.

        Per example the closest first, and those that embeddings brought up before those that words did.
        """
        listened = heard(turns(pool), "prompt")
        listened = listened[comparable(listened["content"], self.min_words)]
        entry = comparable(items["prompt"], self.min_words)
        # Equal cosines are told apart by the example's id and the turn, so that row order does not matter.
        key = keyed_hashes(pool["id"][listened["row"].to_numpy()], 0) + listened["turn"].to_numpy().astype(np.uint64)
        found = [
            self._closest(listened, items, entry, key, measure, using)
            for measure in ("embedding", "tf-idf")
            if measure in self.closest_by
        ]
        return (
            pl.concat(found)
            .unique(["row", "entry"], keep="first", maintain_order=True)
            .sort("row", maintain_order=True)
        )

    def _closest(
        self, listened: pl.DataFrame, items: pl.DataFrame, entry: np.ndarray, key: np.ndarray, by: Measure, using: Using
    ) -> pl.DataFrame:
        """The pairs that one measure brings up; ``entry`` are the places of the items that are compared."""
        closest = ClosestTurns(len(entry), self.candidates)
        if listened.height and len(entry):
            cosines = _cosines(by, items["prompt"][entry], using)
            for number, here in enumerate(listened.iter_slices(_TURNS)):
                closest.add(number * _TURNS, cosines(here["content"]), key)
        turn, item, cosine = closest.pairs(self.min_cosine if by == "embedding" else self.min_tf_idf)
        found = listened[turn].with_columns(
            pl.Series("entry", entry[item], dtype=pl.Int64),
            pl.Series("cosine", cosine, dtype=pl.Float64),
            pl.lit(by).alias("closest_by"),
        )
        named = items.with_row_index("entry").with_columns(pl.col("entry").cast(pl.Int64))
        # An item may be near several turns of an example: the closest speaks for it.
        return (
            found.sort("row", "cosine", "entry", "turn", descending=[False, True, False, False])
            .unique(["row", "entry"], keep="first", maintain_order=True)
            .group_by("row", maintain_order=True)
            .head(self.items_per_example)
            .join(named, on="entry", how="left", maintain_order="left")
        )

    def _verdict(self, id_: bytes, judged: Sequence[tuple[dict[str, Any], Ruling]]) -> dict[str, Any]:
        """An example's fate, from the rulings on its pairs."""
        verdict: dict[str, Any] = dict.fromkeys(VERDICTS) | {"id": id_, "fate": "keep"}
        if not judged:
            return verdict
        shares = [ruling.yes for _, ruling in judged if ruling.yes is not None]
        verdict["score"] = max(shares, default=None)
        told = next((one for one in judged if one[1].verdict == "yes"), None)
        doubtful = next((one for one in judged if one[1].verdict not in ("yes", "no")), None)
        if told:
            verdict |= {"fate": "reject", "reason": _RULE}
        elif doubtful and self.undecided == "quarantine":
            verdict |= {"fate": "quarantine", "reason": _UNDECIDED + doubtful[1].verdict}
        pair, ruling = told or doubtful or judged[0]
        return verdict | {"evidence": canonical_json(_evidence(pair, ruling, judged))}


_CLASSES = ("split", "unparsed", *get_args(FailureClass))
_JUDGED = pl.Struct({"judged": pl.List(pl.Struct({"verdict": pl.String}))})


def _cosines(by: Measure, texts: pl.Series, using: Using) -> Callable[[pl.Series], Blocks]:
    """Cosines of turns with these items, in blocks."""
    if by == "tf-idf":
        return TfIdf(texts).blocks
    vectors = using.embed.embed(texts.to_list())
    return lambda turns: cosine_blocks(using.embed.embed(turns.to_list()), vectors)


def _undecided(name: str) -> Rule:
    how = {
        "split": "the judge says yes in one order and no in the other",
        "unparsed": "a reply of the judge cannot be read",
    }.get(name, f"a call to the judge failed: {name}")
    return Rule(name=_UNDECIDED + name, says=f"it is not known whether it rephrases a benchmark item: {how}")


def _evidence(
    pair: Mapping[str, Any], ruling: Ruling, judged: Sequence[tuple[dict[str, Any], Ruling]]
) -> dict[str, Any]:
    """The pair that decided, with shared runs of words for the eye, and every pair that was judged."""
    (spans,) = matched_spans(pl.Series([pair["content"]]), pl.Series([pair["prompt"]]), _SPAN)
    longest = max(spans, key=lambda span: span.words, default=None)
    return {
        "benchmark": pair["benchmark"],
        "item": pair["item"],
        "field": "prompt",
        "turn": pair["turn"],
        "in": "worse" if pair["worse"] else "messages",
        "cosine": round(pair["cosine"], 4),
        "closest_by": pair["closest_by"],
        "spans": [{"text": list(span.text), "item": list(span.item)} for span in spans[:8]],
        "quote": (pair["content"][slice(*longest.text)] if longest else pair["content"])[:160],
        "judged": [
            {"benchmark": p["benchmark"], "item": p["item"], "cosine": round(p["cosine"], 4), "verdict": r.verdict}
            for p, r in judged
        ],
        "calls": [call for _, r in judged for call in r.calls],
    }
