"""Response tuning: the responses alone, without what they answer."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request
from methods.asking.projection import response_only
from methods.asking.prompted import Prompted
from methods.asking.rewriting import refusal_of
from methods.asking.sampling import Draw, calls_of, sample
from methods.generate._account import Account
from methods.generate._candidates import blocks
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of
from methods.keyed import by_key, drawn_seed, keyed_hashes
from methods.needs import needed
from schemas.errors import UsageError
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using

_REFUSAL = re.compile(r"\b(?:ai|sorry)\b", re.IGNORECASE)


class ResponseTuning(Prompted, GenerateMethod):
    """Makes, of each example, one that holds its response only; the loss then covers exactly the response.

    ``refine`` has a teacher rewrite each response first. With ``safety_source``, the examples of that source are refusals
    to be mixed in: those whose response holds the word "ai" or "sorry", ``safety_examples`` of them drawn by id.

    Departs from the published code: its match of "ai" and "sorry" is by letters, ours by words ("said" is no refusal),
    unless ``compat: official``.

    Paper: An & Kim 2024, https://arxiv.org/abs/2410.02465, section 3.
    """

    method: Literal["response-tuning"] = "response-tuning"
    needs: ClassVar[frozenset[str]] = needed({"llm"}, lambda method: {"llm"} if method.refine else ())
    speaks: ClassVar[tuple[str, ...]] = ("refine-response",)

    empty_prompt: bool = Field(False, description="keep an empty user turn in front, for trainers that want one")
    refine: bool = Field(False, description="have the teacher rewrite each response first")
    draw: Draw = Field(Draw(max_tokens=1024), description="with refine: how the rewritten response is drawn")
    safety_source: str | None = Field(None, description="source of the pool from which refusals are mixed in")
    safety_examples: int = Field(100, ge=0, description="with safety_source: how many of its refusals are taken")
    compat: Literal["fixed", "official"] = Field("fixed", description="official: refusals by letters instead of words")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One rewriting per example with ``refine``."""
        calls = rows if self.refine else 0
        return Expected(calls, round(calls * (words * TOKENS_PER_WORD + 80 + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """One example per seed, in order of ids, but for refusals that were not drawn and failed rewritings."""
        account = Account()
        seed = drawn_seed(rng)
        given = given_of(seeds, account, self.name)
        refusals = self._refusals(given, seed, account)
        kept = [one for one in given if one.source != self.safety_source or one.id in refusals]
        for done, part in blocks(kept):
            for one, text, pedigree in self._responses(part, seed, using, account):
                account.create(response_only(text, empty_prompt=self.empty_prompt), pedigree, tools=one.tools)
            using.progress(done, len(kept), f"{len(account.created)} responses")
        return account.settled(seeds["id"], {"refusals_mixed_in": len(refusals)}, self.name)

    def _refusals(self, given: Sequence[Given], seed: int, account: Account) -> set[bytes]:
        """Ids of the refusals that are mixed in; the other examples of their source are refused.

        Raises ``UsageError`` where no example is of the source.
        """
        if self.safety_source is None:
            return set()
        there = [one for one in given if one.source == self.safety_source]
        if not there:
            raise UsageError(
                f"safety_source: none of {len(given)} examples is of the source {self.safety_source!r}; "
                f"there are {', '.join(sorted({one.source for one in given})[:20])}"
            )
        fit = [one for one in there if self._is_refusal(one.answer)]
        ids = pl.Series([one.id for one in fit], dtype=pl.Binary)
        order = by_key(keyed_hashes(ids, seed), ids) if fit else np.zeros(0, np.int64)
        taken = {fit[int(i)].id for i in order[: self.safety_examples]}
        fitting = {one.id for one in fit}
        for one in there:
            if one.id not in taken:
                reason = "refusal-not-drawn" if one.id in fitting else "no-refusal"
                account.refuse(one.answer, reason, Pedigree((one.id,), (), {"source": one.source}))
        return taken

    def _is_refusal(self, answer: str) -> bool:
        if self.compat == "official":
            return "ai" in answer.lower() or "sorry" in answer.lower()
        return _REFUSAL.search(answer) is not None

    def _responses(
        self, given: Sequence[Given], seed: int, using: Using, account: Account
    ) -> list[tuple[Given, str, Pedigree]]:
        """Each response as it is, or as the teacher rewrote it; failed rewritings are refused."""
        if not self.refine:
            return [(one, one.answer, Pedigree((one.id,), (), {"projection": "response-only"})) for one in given]
        prompt, sampling = self.prompt("refine-response"), self.draw.sampling(seed % 2**31)
        requests = [
            Request.ask(prompt.render(request=one.conversation, response=one.answer), sampling) for one in given
        ]
        replies = sample(using.llm, requests)
        found: list[tuple[Given, str, Pedigree]] = []
        for one, reply in zip(given, replies, strict=True):
            told = {"projection": "response-only", "refined": True, "before": one.answer[:400]}
            pedigree = Pedigree((one.id,), tuple(calls_of([reply])), told)
            reason = refusal_of(reply)
            if reason:
                account.refuse(reply.text.strip(), reason, pedigree.and_then(message=reply.message[:200]))
            else:
                found.append((one, reply.text.strip(), pedigree))
        return found
