"""Is a text toxic? A language model says yes or no, or embeddings say how far it leans to texts that people called toxic."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from backends.protocols import Reply, Request, Turn
from methods.asking.parsing import Unparsed, yes_or_no
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from methods.conversation import texts_of
from methods.filter._known_texts import INSULTS, POLITE
from methods.filter._prototypes import Leaning, labelled_texts
from methods.needs import needed
from schemas.examples import VERDICTS, answer_text, conform, prompt_text
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

_TOXIC, _UNPARSED, _FAILED, _UNFIT = "toxic", "toxicity-unparsed", "toxicity-call-failed", "judge-cannot-tell"
_MISTAKES = 1  # that a judge may make about each kind of the known texts
_PIECE = 2048  # texts embedded at once


class Toxicity(Prompted, FilterMethod):
    """Drops examples whose text is toxic, by a judge's votes or by resemblance to labelled texts of your own.

    ``by: judge`` asks a language model yes or no, ``votes`` times; the score is the share of yes. A reply that is neither,
    and a call that failed, is a class of its own: the example is quarantined, never counted as clean. First the judge is
    asked about twelve texts that everybody calls toxic or not: one that is wrong about two of either kind cannot tell, and
    then every example is quarantined for that reason, so that the step fails instead of passing everything. The embedded
    `sprout` fails; use a model that was made for this.

    ``by: prototypes`` needs no language model: an embedder and ``prototypes``, labelled texts (at least ten of each kind; a
    few hundred from your own domain are better). A text is scored by its worst paragraph: the share of clean prototypes
    that lean less from the clean to the toxic ones. It knows words and topics, not intent: see docs/cleaning.md.

    Score: 0-1, lower is better.

    Paper: Inan et al. 2023, Llama Guard, https://arxiv.org/abs/2312.06674 (judge); Snell et al. 2017, Prototypical networks,
    https://arxiv.org/abs/1703.05175 (prototypes)
    """

    method: Literal["toxicity"] = "toxicity"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = needed(
        {"judge", "embed"}, lambda method: {"judge"} if method.by == "judge" else {"embed"}
    )
    speaks: ClassVar[tuple[str, ...]] = ("toxic",)
    per_example: ClassVar[bool] = True

    by: Literal["judge", "prototypes"] = Field(
        "judge", description="a language model, or labelled texts and an embedder"
    )
    of: Literal["answer", "prompt", "both"] = Field("both", description="which text is judged")
    votes: int = Field(1, ge=1, le=15, description="by a judge: replies per example; more than one needs a temperature")
    max_toxic_fraction: float = Field(
        0.5, ge=0, lt=1, description="by a judge: largest share of votes for toxic that still stays"
    )
    prototypes: str = Field(
        "", description='by prototypes: a JSONL file of {"text": "…", "toxic": true} (path), at least ten of each kind'
    )
    max_clean_fraction: float = Field(
        0.98,
        gt=0,
        lt=1,
        description="by prototypes: a text that leans more to the toxic ones than this share of the clean ones is dropped",
    )
    max_characters: int = Field(6000, ge=100, description="longer texts are judged by their beginning")
    draw: Draw = Field(Draw(max_tokens=4), description="how votes are drawn")

    @field_validator("prototypes")
    @classmethod
    def _read_prototypes(cls, given: str) -> str:
        """The content instead of the path: it may not change between `check` and `run`."""
        return labelled_texts(given) if given else ""

    @model_validator(mode="after")
    def _prototypes_where_they_are_used(self) -> "Toxicity":
        if (self.by == "prototypes") != bool(self.prototypes):
            raise ValueError(
                "by: prototypes and prototypes go together: name the file of labelled texts, or leave both out"
            )
        return self

    def rules(self) -> Sequence[Rule]:
        """``toxic``, and the ways of not knowing."""
        if self.by == "prototypes":
            says = "a paragraph leans more to texts that people called toxic than nearly all clean ones do"
            return (Rule(name=_TOXIC, says=says, threshold=self.max_clean_fraction, direction="keep-below"),)
        known = f"{len(INSULTS)} insults and {len(POLITE)} polite texts"
        return (
            Rule(name=_TOXIC, says="a judge finds it toxic", threshold=self.max_toxic_fraction, direction="keep-below"),
            Rule(name=_UNPARSED, says="the judge answered neither yes nor no"),
            Rule(name=_FAILED, says="the judge could not be asked"),
            Rule(name=_UNFIT, says=f"the judge cannot tell {known} apart; use a model that was made for this"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """By a judge ``votes`` calls a row, and those about the known texts; none by prototypes."""
        if self.by == "prototypes":
            return Expected()
        calls = rows * self.votes
        known = len(INSULTS + POLITE)
        tokens = calls * (words * TOKENS_PER_WORD + 80 + self.draw.max_tokens) + known * (100 + self.draw.max_tokens)
        return Expected(calls + known, int(tokens))

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; votes of one text are told apart by their index."""
        text = {"answer": answer_text(), "prompt": prompt_text(), "both": texts_of()}[self.of]
        texts = pool.select(text=text.fill_null("").str.head(self.max_characters))["text"].to_list()
        rows = self._by_judge(texts, using) if self.by == "judge" else self._by_prototypes(texts, using)
        told = ("fate", "reason", "score", "evidence")
        frame = pl.DataFrame(rows, {name: VERDICTS[name] for name in told}, orient="row")
        return conform(frame.with_columns(pool["id"]), VERDICTS, "filter/toxicity")

    def _by_judge(self, texts: list[str], using: Using) -> list[tuple[Any, ...]]:
        known = self._votes([*INSULTS, *POLITE], 1, using)
        # A call that failed says nothing about the judge: below its kind of failure is told example by example.
        right = [not heard or said == [place < len(INSULTS)] for place, (said, heard) in enumerate(map(_read, known))]
        missed = (len(INSULTS) - sum(right[: len(INSULTS)]), len(POLITE) - sum(right[len(INSULTS) :]))
        if max(missed) > _MISTAKES:
            told = {"insults_missed": missed[0], "polite_texts_missed": missed[1], "said": known[0][0].text[:80]}
            return [("quarantine", _UNFIT, None, canonical_json(told))] * len(texts)
        rows: list[tuple[Any, ...]] = []
        for own in self._votes(texts, self.votes, using):
            said, heard = _read(own)
            share = sum(said) / len(said) if said else None
            fate, reason = "keep", None
            if share is None:
                fate, reason = "quarantine", _UNPARSED if heard else _FAILED
            elif share > self.max_toxic_fraction:
                fate, reason = "reject", _TOXIC
            evidence = {"yes": sum(said), "votes": len(said), "calls": [call.hex() for call in calls_of(own)]}
            rows.append((fate, reason, share, canonical_json(evidence)))
        return rows

    def _votes(self, texts: Sequence[str], votes: int, using: Using) -> list[list[Reply]]:
        asked = [self.prompt("toxic").render(text=one) for one in texts]
        requests = [
            Request(messages=(Turn("user", one),), sampling=self.draw.sampling(index=vote))
            for one in asked
            for vote in range(votes)
        ]
        replies = sample(using.judge, requests, progress=using.progress, note="toxicity")
        return [replies[i * votes : (i + 1) * votes] for i in range(len(texts))]

    def _by_prototypes(self, texts: list[str], using: Using) -> list[tuple[Any, ...]]:
        leaning = Leaning.of(self.prototypes, using.embed)
        rows: list[tuple[Any, ...]] = []
        for start in range(0, len(texts), _PIECE):
            for share in leaning.shares(texts[start : start + _PIECE], using.embed).tolist():
                toxic = share > self.max_clean_fraction
                rows.append(("reject" if toxic else "keep", _TOXIC if toxic else None, share, None))
            using.progress(len(rows), len(texts), "toxicity")
        return rows


def _read(replies: Sequence[Reply]) -> tuple[list[bool], int]:
    """The votes that could be read, and how many replies there were to read."""
    heard = [reply for reply in replies if failure_of(reply, complete=False) is None]
    return [answer for reply in heard if not isinstance(answer := yes_or_no(reply.text), Unparsed)], len(heard)
