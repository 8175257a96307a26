"""Candidate answers to the pool's questions: those that the pool has, those that a model writes, or both."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import LLM, Request
from methods.asking.answers import same_final_answer
from methods.asking.rewriting import refusal_of
from methods.asking.sampling import Draw, calls_of, sample_each
from methods.generate._account import Account
from methods.generate._ledger import Pedigree
from methods.generate._pool import Group, given_of, groups_of, need_field
from methods.keyed import drawn_seed
from methods.needs import needed
from schemas.identity import canonical_json
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using

#: Questions worked on at once: many, so that an engine can batch; not all, so that a run of millions stays small.
QUESTIONS_AT_ONCE = 256

Q = TypeVar("Q")


@dataclass(frozen=True)
class Candidate:
    """One answer to a question; ``parents`` are the examples it came from, ``sample`` its number among the sampled."""

    text: str
    origin: Literal["given", "sampled"]
    parents: tuple[bytes, ...]
    calls: tuple[bytes, ...] = ()
    source: str = ""
    sample: int | None = None
    tools: str | None = None
    before: tuple[Mapping[str, Any], ...] = ()

    def pedigree(self, **evidence: Any) -> Pedigree:
        """Where it came from, for the ledger."""
        about = {"origin": self.origin, "source": self.source or None, "sample": self.sample}
        return Pedigree(self.parents, self.calls, {**{k: v for k, v in about.items() if v is not None}, **evidence})


@dataclass
class Question:
    """One question with its candidates, in an order that does not depend on the pool's."""

    group: Group
    candidates: list[Candidate] = field(default_factory=list)
    reference: str | None = None


class FromCandidates(GenerateMethod):
    """Base of the methods that choose among candidate answers: where candidates come from and which are correct."""

    needs: ClassVar[frozenset[str]] = needed({"llm", "student", "judge"}, lambda method: method.asks())

    candidates: Literal["given", "sampled", "both"] = Field(
        "sampled",
        description="answers to choose from: those of the pool's examples that share a question, new ones, both",
    )
    writer: Literal["llm", "student"] = Field("llm", description="which model writes the sampled answers")
    samples: int = Field(8, ge=1, le=1000, description="answers sampled per question")
    draw: Draw = Field(Draw(max_tokens=512, temperature=0.7), description="how answers are sampled")
    reference: str | None = Field(
        None,
        description="field of the source row with the reference answer; a candidate that ends otherwise is refused",
    )
    tolerance: float = Field(1e-4, gt=0, description="how far two numeric answers may be apart to be the same")

    def asks(self) -> set[str]:
        """The engines that these settings ask."""
        return {self.writer} if self.candidates != "given" else set()

    def answers_of(self, rows: int) -> int:
        """Candidates of ``rows`` examples, at most: each counted as a question of its own."""
        given = 0 if self.candidates == "sampled" else rows
        return given + (0 if self.candidates == "given" else rows * self.samples)

    def expected_calls(self, rows: int, words: float) -> Expected:
        """``samples`` replies per question, each row counted as a question of its own."""
        if self.candidates == "given":
            return Expected()
        calls = rows * self.samples
        return Expected(calls, round(calls * (words * TOKENS_PER_WORD + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """What was chosen; every candidate that was not is refused with the reason.

        Raises ``EmptyStage`` where no example is usable, ``UsageError`` where none has a field that is named.
        """
        account = Account()
        seed = drawn_seed(rng) % 2**31
        given = given_of(seeds, account, self.name, answered=self.candidates == "given")
        for option, name in self.fields_named().items():
            need_field(given, option, name)
        groups = groups_of(given)
        self.begin(using)
        for done, part in blocks(groups):
            questions = [Question(group) for group in part]
            self.gather(questions, account, using=using, seed=seed)
            self.choose(questions, account, using=using)
            note = f"{len(account.created)} chosen, {len(account.refused)} refused"
            using.progress(done, len(groups), note)
        self.finish(account)
        return account.settled(seeds["id"], {"questions": len(groups), **self.notes(account)}, self.name)

    def fields_named(self) -> dict[str, str | None]:
        """The fields of source rows that these settings name, by setting; one that no row has is refused at once."""
        return {"reference": self.reference}

    def begin(self, using: Using) -> None:
        """Whatever must be settled before anything is asked."""

    def gather(self, questions: Sequence[Question], account: Account, *, using: Using, seed: int) -> None:
        """Fills in the candidates; those without a text or with another answer than the reference's are refused."""
        for question in questions:
            question.reference = reference_of(question.group, self.reference)
        if self.candidates != "sampled":
            for question in questions:
                question.candidates += given_candidates(question.group)
        if self.candidates != "given":
            llm = using.llm if self.writer == "llm" else using.student
            sampled_candidates(questions, llm, self.draw, self.samples, account, seed=seed)
        for question in questions:
            self.check(question, account)

    def check(self, question: Question, account: Account) -> None:
        """Leaves the candidates that end with the reference's answer, where there is a reference."""
        if self.reference is None:
            return
        right: list[Candidate] = []
        for one in question.candidates:
            same = None
            if question.reference is not None:
                same = same_final_answer(one.text, question.reference, tolerance=self.tolerance)
            if same:
                right.append(one)
            else:
                wrong = "wrong-answer" if same is False else "no-final-answer"
                reason = "no-reference" if question.reference is None else wrong
                account.refuse(one.text, reason, one.pedigree(reference=(question.reference or "")[-160:]))
        question.candidates = right

    @abstractmethod
    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """Creates or refuses every candidate of these questions; a question's fate never depends on another's."""

    def finish(self, account: Account) -> None:
        """What can only be decided when all questions are through."""

    def notes(self, account: Account) -> Mapping[str, Any]:
        """Counts and statistics for the step's summary."""
        return {}


def blocks(questions: Sequence[Q]) -> Iterator[tuple[int, Sequence[Q]]]:
    """Questions in parts of bounded size, each with how many will be through after it."""
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        part = questions[start : start + QUESTIONS_AT_ONCE]
        yield start + len(part), part


def given_candidates(group: Group) -> list[Candidate]:
    """The group's own answers, by id; one example is the parent of each."""
    return [
        Candidate(m.answer, "given", (m.id,), source=m.source, tools=m.tools, before=m.before)
        for m in group.members
        if m.answer.strip()
    ]


def sampled_candidates(
    questions: Sequence[Question], llm: LLM, draw: Draw, samples: int, account: Account, *, seed: int
) -> None:
    """Appends new answers to each question; those that failed, are empty or were cut off are refused."""
    requests = [Request(question.group.first.asked, sampling=draw.sampling(seed)) for question in questions]
    replies = sample_each(llm, requests, samples)
    for question, answers in zip(questions, replies, strict=True):
        ids, first = question.group.ids, question.group.first
        for index, reply in enumerate(answers):
            text, calls = reply.text.strip(), tuple(calls_of([reply]))
            reason = refusal_of(reply)
            if reason:
                evidence = {"origin": "sampled", "sample": index, "message": reply.message[:200]}
                account.refuse(text, reason, Pedigree(ids, calls, evidence))
            else:
                question.candidates.append(
                    Candidate(text, "sampled", ids, calls, reply.model, index, first.tools, first.before)
                )


def reference_of(group: Group, name: str | None) -> str | None:
    """The reference answer of a question: the field of its first example that has it."""
    found = (member.field(name) for member in group.members)
    return next((text for text in found if text is not None and text.strip()), None)


def parents_of(chosen: Candidate, question: Question) -> tuple[bytes, ...]:
    """The chosen candidate's own parents first, then every other example it was chosen against."""
    return tuple(dict.fromkeys((*chosen.parents, *question.group.ids)))


def same_text(text: str) -> str:
    """What makes two answers one and the same: Unicode form and spaces aside."""
    return " ".join(canonical_json(text)[1:-1].split())
