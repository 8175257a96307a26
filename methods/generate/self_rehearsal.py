"""Selective self-rehearsal: train on the model's own words wherever they are right."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from backends.protocols import Reply, Request
from methods.asking.execution import outcomes_of, source_of
from methods.asking.projection import answered
from methods.asking.prompted import Prompted
from methods.asking.rewriting import Passed, Rewritten, Way, rewrite
from methods.asking.sampling import Draw, sample
from methods.asking.structured import Asking
from methods.generate._account import Account
from methods.generate._candidates import blocks
from methods.generate._judging import judged, matched
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of, need_field
from methods.keyed import drawn_seed
from methods.needs import needed
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using

SOURCES = ("model", "paraphrase", "gold")


class SelfRehearsal(Prompted, GenerateMethod):
    """Gives each example one target: the student's own answer if it is right, else its paraphrase of the given answer if
    that is right, else the given answer.

    Right is what a judge says who sees the given answer (``check: judge``), an equal final answer (``check: answer``), or
    code that passes the tests of the source row in the sandbox (``check: tests``). With ``paraphrase: false`` this is SSR.
    Every example comes out exactly once, its target's source in the evidence and their shares in the notes; an answer of
    the model that was not used is refused with what was wrong.

    Departs from the paper: a judge that is not certain, or says nothing that can be read, does not let an answer pass.

    Paper: Gupta et al. 2025 (S3FT), https://arxiv.org/abs/2502.08130, section 3; Gupta et al. 2024 (SSR),
    https://arxiv.org/abs/2409.04787.
    """

    method: Literal["self-rehearsal"] = "self-rehearsal"
    needs: ClassVar[frozenset[str]] = needed({"student", "judge", "sandbox"}, lambda method: method.asks())
    speaks: ClassVar[tuple[str, ...]] = ("judge-answer", "paraphrase-answer")

    check: Literal["judge", "answer", "tests"] = Field(
        "judge", description="a judge's verdict, equal final answers, or code that passes its tests"
    )
    tests: str | None = Field(
        None,
        description="with check: tests, the field of the source row with the tests: Python source, or a list of lines",
    )
    test_seconds: float = Field(5.0, gt=0, le=600, description="with check: tests, wall time of one program")
    test_memory_mib: int = Field(512, ge=64, description="with check: tests, memory of one program")
    paraphrase: bool = Field(True, description="S3FT: try the model's paraphrase of the given answer; false: SSR")
    draw: Draw = Field(Draw(max_tokens=512), description="how the student's answer is drawn")
    paraphrasing: Draw = Field(Draw(max_tokens=512, temperature=0.7), description="how its paraphrase is drawn")
    judging: Asking = Field(Asking(), description="with check: judge, how the verdict is asked for")
    tolerance: float = Field(1e-4, gt=0, description="how far two numeric answers may be apart to be the same")

    @model_validator(mode="after")
    def _knows_its_tests(self) -> "SelfRehearsal":
        if (self.check == "tests") != (self.tests is not None):
            raise ValueError("check: tests and `tests`, the field of the source row with the tests, belong together")
        return self

    def asks(self) -> set[str]:
        """The student, and whoever says what is right."""
        return {"student"} | {"judge": {"judge"}, "tests": {"sandbox"}, "answer": set[str]()}[self.check]

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most: an answer, a paraphrase and a verdict on each per example."""
        tries = 2 if self.paraphrase else 1
        each = words * TOKENS_PER_WORD + self.draw.max_tokens
        judged = self.judging.tries * tries if self.check == "judge" else 0
        verdict = 2 * each + self.judging.draw.max_tokens
        return Expected(rows * (tries + judged), round(rows * (tries * 2 * each + judged * verdict)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """Exactly one example per usable seed, in order of ids. ``UsageError`` where none has the tests that are named."""
        account = Account()
        seed = drawn_seed(rng) % 2**31
        given = given_of(seeds, account, self.name)
        need_field(given, "tests", self.tests)
        sources: Counter[str] = Counter()
        for done, part in blocks(given):
            for one, made in zip(part, self._rewritten(part, seed, using), strict=True):
                sources[_settle(one, made, account)] += 1
            using.progress(done, len(given), ", ".join(f"{name} {sources[name]}" for name in SOURCES))
        shares = {name: round(sources[name] / sources.total(), 4) for name in SOURCES}
        return account.settled(seeds["id"], {"target_source": dict(sources), "target_source_share": shares}, self.name)

    def _rewritten(self, given: Sequence[Given], seed: int, using: Using) -> list[Rewritten]:
        guide = self.prompt("paraphrase-answer")
        draw, paraphrasing = self.draw.sampling(seed), self.paraphrasing.sampling(seed)

        def own(one: Given) -> Request:
            return Request(one.asked, sampling=draw)

        def in_own_words(one: Given) -> Request:
            asked = guide.render(question=one.conversation, reference=one.answer)
            return Request.ask(asked, paraphrasing)

        def ask(requests: Sequence[Request]) -> list[Reply]:
            return sample(using.student, requests)

        def verify(pairs: Sequence[tuple[Given, str]]) -> list[Passed]:
            if self.check == "answer":
                return matched(pairs, tolerance=self.tolerance)
            if self.check == "tests":
                programs = [(text, source_of(one.fields.get(self.tests or ""))) for one, text in pairs]
                memory = self.test_memory_mib * 2**20
                ran = outcomes_of(programs, using.sandbox, seconds=self.test_seconds, memory_bytes=memory)
                return [Passed(one.reason, detail={"said": one.said}) for one in ran]
            return judged(pairs, self.prompt("judge-answer"), using.judge, self.judging)

        ways = [Way("model", own), *([Way("paraphrase", in_own_words)] if self.paraphrase else [])]
        return rewrite(given, ways, ask, verify)


def _settle(one: Given, made: Rewritten, account: Account) -> str:
    """Records the example and its unused tries; returns where its target came from."""
    for tried in made.tries:
        if tried.reason:
            detail = {"way": tried.way, **tried.detail}
            account.refuse(tried.text, tried.reason, Pedigree((one.id,), tried.calls, detail))
    source = made.way or "gold"
    told = {"target_source": source, "tries": [{"way": t.way, "reason": t.reason} for t in made.tries]}
    text = one.answer if made.text is None else made.text
    account.create(answered(one.before, text), Pedigree((one.id,), made.calls, told), tools=one.tools)
    return source
