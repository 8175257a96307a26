"""Distilling step-by-step: a teacher's reasoning as a second task beside the answer."""

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.protocols import Request
from methods.asking.answers import final_answer, same_answer
from methods.asking.parsing import Unparsed
from methods.asking.projection import EXPLAIN, PREDICT, answered, prefixed
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.asking.structured import Heard, ask_for, unheard
from methods.generate._account import Account
from methods.generate._candidates import blocks
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of
from methods.keyed import drawn_seed
from methods.needs import needed
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


class Demonstration(BaseModel):
    """A worked example for the teacher."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    rationale: str
    answer: str


class Reasoned(BaseModel):
    """What a teacher wrote: the reasoning without its last sentence, and the answer stated there."""

    model_config = ConfigDict(frozen=True)

    rationale: str
    answer: str


class Rationales(Prompted, GenerateMethod):
    """Has a teacher reason about each example, and makes training rows of the answer and of the reasoning.

    ``two-tasks``: a row ``predict: …`` with the answer and a row ``explain: …`` with the reasoning; ``answer-first`` and
    ``rationale-first``: one row with both. The answer is the example's own (``label: given``) or the teacher's. The weight
    of each task in the loss stands in the evidence; with ``label_weight`` 1 there are answers only, with 0 reasoning only.

    Departs from the paper: reasoning that states another answer than the given one is refused (``check``), and so is its
    example.

    Paper: Hsieh et al. 2023, https://arxiv.org/abs/2305.02301, sections 3.1 and 3.2.
    """

    method: Literal["rationales"] = "rationales"
    needs: ClassVar[frozenset[str]] = needed({"llm"}, lambda method: {"llm"} if method.asks else ())
    speaks: ClassVar[tuple[str, ...]] = ("rationale",)

    form: Literal["two-tasks", "answer-first", "rationale-first"] = Field(
        "two-tasks", description="two rows per example, or one with answer and reasoning in this order"
    )
    label: Literal["given", "llm"] = Field("given", description="whose answer is learned: the example's, the teacher's")
    label_weight: float = Field(
        0.5, ge=0, le=1, description="weight of the answers in the loss, the rest is the reasoning's"
    )
    show_answer: bool = Field(False, description="tell the teacher the given answer and ask only for the way to it")
    check: bool = Field(True, description="refuse reasoning that states another answer than the given one")
    demonstrations: tuple[Demonstration, ...] = Field((), description="worked examples: question, rationale, answer")
    tries: int = Field(2, ge=1, le=10, description="how often one example is asked about before it is refused")
    draw: Draw = Field(Draw(max_tokens=512), description="how the reasoning is drawn")

    @model_validator(mode="after")
    def _is_possible(self) -> "Rationales":
        if self.label == "llm" and self.show_answer:
            raise ValueError("label: llm with show_answer would copy the given answer; set one of them otherwise")
        if self.form != "two-tasks" and self.label_weight in (0, 1):
            raise ValueError("label_weight 0 or 1 leaves out a task, which only form: two-tasks has; choose it")
        return self

    @property
    def asks(self) -> bool:
        """Whether the teacher is needed at all."""
        return self.label == "llm" or self.label_weight < 1

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most ``tries`` calls per example."""
        calls = rows * self.tries if self.asks else 0
        return Expected(calls, round(calls * (2 * words * TOKENS_PER_WORD + 100 + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """The rows of each example, in order of ids; an example without usable reasoning is refused."""
        account = Account()
        seed = drawn_seed(rng) % 2**31
        given = given_of(seeds, account, self.name)
        lost: Counter[str] = Counter()
        for done, part in blocks(given):
            heard = self._reasoned(part, seed, using)
            lost.update(unheard([one for one in heard if one is not None]))
            for one, said in zip(part, heard, strict=True):
                self._project(one, said, account)
            using.progress(done, len(given), f"{len(account.created)} rows")
        weights = {"predict": self.label_weight, "explain": round(1 - self.label_weight, 6)}
        return account.settled(seeds["id"], {"weights": weights, "unread": dict(lost)}, self.name)

    def _reasoned(self, given: Sequence[Given], seed: int, using: Using) -> Sequence[Heard[Reasoned] | None]:
        """What the teacher said about each; None where it is not asked."""
        if not self.asks:
            return [None] * len(given)
        prompt = self.prompt("rationale")
        shown = [(d.question, d.rationale, d.answer) for d in self.demonstrations]
        requests = [
            Request.ask(
                prompt.render(
                    demonstrations=shown, question=one.conversation, answer=one.answer if self.show_answer else ""
                ),
                self.draw.sampling(seed),
            )
            for one in given
        ]
        return ask_for(using.llm, requests, read_reasoning, tries=self.tries)

    def _project(self, one: Given, heard: Heard[Reasoned] | None, account: Account) -> None:
        pedigree = Pedigree((one.id,), heard.calls if heard else (), {"pair": one.id.hex(), "form": self.form})
        said = heard.value if heard else None
        if heard is not None and said is None:
            last = heard.replies[-1].text
            reason = "no-stated-answer" if heard.failure == "unparsed" else f"call-{heard.failure}"
            account.refuse(last, reason, pedigree.and_then(why=heard.why[:200]))
            return
        if said is not None and self.label == "given" and self.check and not _agrees(said.answer, one.answer):
            account.refuse(said.rationale, "other-answer", pedigree.and_then(stated=said.answer[:160]))
            return
        label = said.answer if said is not None and self.label == "llm" else one.answer
        rationale = said.rationale if said is not None else ""
        if self.form != "two-tasks":
            first, second = (label, rationale) if self.form == "answer-first" else (rationale, label)
            account.create(answered(one.before, f"{first}\n\n{second}"), pedigree, tools=one.tools)
            return
        tasks = (("predict", PREDICT, label, self.label_weight), ("explain", EXPLAIN, rationale, 1 - self.label_weight))
        for task, prefix, text, weight in tasks:
            if weight > 0:
                told = pedigree.and_then(task=task, weight=round(weight, 6))
                account.create(answered(prefixed(one.before, prefix), text), told, tools=one.tools)


def read_reasoning(text: str) -> Reasoned | Unparsed:
    """Reasoning and the answer that its last "the answer is" states.

    >>> read_reasoning("Two and two make four. So the answer is 4.")
    Reasoned(rationale='Two and two make four.', answer='4')
    """
    place = max(text.lower().rfind("the answer is"), text.lower().rfind("####"))
    if place < 0:
        return Unparsed('it does not end with "So the answer is <answer>."')
    found = final_answer(text[place:], guess=False)
    reasoning = text[:place].strip()
    reasoning = reasoning[: -len("so")].rstrip(" ,\n") if reasoning.lower().split()[-1:] == ["so"] else reasoning
    if found is None or not reasoning:
        return Unparsed("no answer is stated" if found is None else "there is no reasoning before the answer")
    return Reasoned(rationale=reasoning, answer=found.text)


def _agrees(stated: str, given: str) -> bool:
    wanted = final_answer(given)
    return same_answer(stated, given) or (wanted is not None and same_answer(stated, wanted.text))
