"""Is a text toxic? A language model says yes or no, as often as it is asked."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request, Turn
from methods.conversation import texts_of
from methods.parsing import Unparsed, yes_or_no
from methods.prompted import Prompted
from methods.sampling import Draw, calls_of, failure_of, sample
from schemas.examples import VERDICTS, answer_text, conform, prompt_text
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

_TOXIC, _UNPARSED, _FAILED = "toxic", "toxicity-unparsed", "toxicity-call-failed"


class Toxicity(Prompted, FilterMethod):
    """Drops examples whose text a judge finds toxic; the score is the share of ``votes`` that said so, in 0-1, lower better.

    A reply that is neither yes nor no, and a call that failed, is a class of its own: the example is quarantined, never
    counted as clean. Use a model that was made for this as the judge; a small one does not know.

    Paper: Inan et al. 2023, Llama Guard, https://arxiv.org/abs/2312.06674
    """

    method: Literal["toxicity"] = "toxicity"
    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    speaks: ClassVar[tuple[str, ...]] = ("toxic",)
    per_example: ClassVar[bool] = True

    of: Literal["answer", "prompt", "both"] = Field("both", description="which text is judged")
    votes: int = Field(1, ge=1, le=15, description="replies per example; more than one needs a temperature")
    max_toxic_fraction: float = Field(0.5, ge=0, lt=1, description="largest share of votes for toxic that still stays")
    max_characters: int = Field(6000, ge=100, description="longer texts are judged by their beginning")
    draw: Draw = Field(Draw(max_tokens=4), description="how votes are drawn")

    def rules(self) -> Sequence[Rule]:
        """``toxic``, and the two ways of not knowing."""
        return (
            Rule(name=_TOXIC, says="a judge finds it toxic", threshold=self.max_toxic_fraction, direction="keep-below"),
            Rule(name=_UNPARSED, says="the judge answered neither yes nor no"),
            Rule(name=_FAILED, says="the judge could not be asked"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """``votes`` calls a row."""
        calls = rows * self.votes
        return Expected(calls, int(calls * (words * TOKENS_PER_WORD + 80 + self.draw.max_tokens)))

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; votes of one text are told apart by their index."""
        text = {"answer": answer_text(), "prompt": prompt_text(), "both": texts_of()}[self.of]
        texts = pool.select(text=text.fill_null("").str.head(self.max_characters))["text"].to_list()
        asked = [self.prompt("toxic").render(text=one) for one in texts]
        requests = [
            Request(messages=(Turn("user", one),), sampling=self.draw.sampling(index=vote))
            for one in asked
            for vote in range(self.votes)
        ]
        replies = sample(using.judge, requests, progress=using.progress, note="toxicity")
        rows = []
        for i, id_ in enumerate(pool["id"]):
            own = replies[i * self.votes : (i + 1) * self.votes]
            heard = [reply for reply in own if failure_of(reply, complete=False) is None]
            said = [answer for reply in heard if not isinstance(answer := yes_or_no(reply.text), Unparsed)]
            share = sum(said) / len(said) if said else None
            fate, reason = "keep", None
            if share is None:
                fate, reason = "quarantine", _UNPARSED if heard else _FAILED
            elif share > self.max_toxic_fraction:
                fate, reason = "reject", _TOXIC
            evidence = {"yes": sum(said), "votes": len(said), "calls": [call.hex() for call in calls_of(own)]}
            rows.append((id_, fate, reason, share, canonical_json(evidence)))
        return conform(
            pl.DataFrame(
                rows,
                {n: VERDICTS[n] for n in ("id", "fate", "reason", "score", "evidence")},
                orient="row",
            ),
            VERDICTS,
            "filter/toxicity",
        )
