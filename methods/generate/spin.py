"""SPIN: preference pairs of the given answer against the model's own."""

from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request
from methods.asking.projection import answered
from methods.asking.rewriting import refusal_of
from methods.asking.sampling import Draw, calls_of, sample
from methods.generate._account import Account
from methods.generate._candidates import blocks, same_text
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of, groups_of
from methods.keyed import drawn_seed
from schemas.examples import turns
from schemas.identity import fingerprint
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


class Spin(GenerateMethod):
    """Makes one preference pair per example: its given answer is chosen, the student's own answer is worse.

    A pair whose answers are equal, Unicode form and spaces aside, would teach nothing and is refused. The evidence names
    the iterate that wrote the worse answer, so that pairs of several rounds can be told apart and joined.

    Departs from the published code unless ``compat: official``: the student is asked through its chat template about the
    whole conversation before the last answer, and an answer cut off by the token limit is refused. Official: only the
    first exchange of a conversation, the published plain prompt, ``</s>`` removed, cut-off answers taken.

    Paper: Chen et al. 2024, https://arxiv.org/abs/2401.01335, algorithm 1.
    """

    method: Literal["spin"] = "spin"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    draw: Draw = Field(Draw(max_tokens=256, temperature=1.0), description="how the student's answer is drawn")
    compat: Literal["fixed", "official"] = Field("fixed", description="official: as the published code asks and cuts")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One answer per example."""
        return Expected(rows, round(rows * (words * TOKENS_PER_WORD + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """One pair per example, in order of ids; an example without a pair is refused."""
        account = Account()
        seed = drawn_seed(rng) % 2**31
        iterate = fingerprint(dict(using.student.identity()))
        given = given_of(seeds, account, self.name)
        if self.compat == "official":
            given = [_first_exchange(one) for one in given]
        groups = groups_of(given)
        for done, part in blocks(groups):
            pairs = [one for group in part for one in group.members]
            requests = [self._request(one, seed, index) for group in part for index, one in enumerate(group.members)]
            replies = sample(using.student, requests)
            for one, reply in zip(pairs, replies, strict=True):
                own = reply.text.replace("</s>", "").lstrip() if self.compat == "official" else reply.text.strip()
                reason = refusal_of(reply, complete=self.compat == "fixed")
                if reason is None and same_text(own) == same_text(one.answer):
                    reason = "equal-answers"
                told = {"iterate": iterate, "model": reply.model or None}
                pedigree = Pedigree((one.id,), tuple(calls_of([reply])), told)
                if reason:
                    account.refuse(own, reason, pedigree.and_then(message=reply.message[:200]))
                else:
                    worse = turns(("assistant", own))
                    account.create(answered(one.before, one.answer), pedigree, tools=one.tools, worse=worse)
            using.progress(done, len(groups), f"{len(account.created)} pairs")
        return account.settled(seeds["id"], {"iterate": iterate}, self.name)

    def _request(self, one: Given, seed: int, index: int) -> Request:
        """Examples that ask the same are told apart by ``index``, so that each gets an answer of its own."""
        sampling = self.draw.sampling(seed, index)
        if self.compat == "official":
            return Request(prompt=f"### Instruction: {one.question}\n\n### Response: ", sampling=sampling)
        return Request(one.asked, sampling=sampling)


def _first_exchange(one: Given) -> Given:
    """The first user turn and the first answer to it; an example that begins otherwise stays as it is."""
    messages = [*one.before, {"role": "assistant", "content": one.answer, "extra": None}]
    asked = next((i for i, turn in enumerate(messages) if turn["role"] == "user"), None)
    if (
        asked is None
        or messages[asked + 1]["role"] != "assistant"
        or not str(messages[asked + 1]["content"] or "").strip()
    ):
        return one
    answer = str(messages[asked + 1]["content"])
    return Given(one.id, (messages[asked],), answer, one.tools, one.source, one.fields)
