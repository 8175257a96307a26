"""SelfCodeAlign: from seed code to concepts, to new tasks, to answers whose own tests pass in the sandbox."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Reply, Request
from methods.asking.execution import code_of, outcomes_of
from methods.asking.parsing import Unparsed
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, calls_of, failure_of, sample, sample_each
from methods.generate._account import Account
from methods.generate._candidates import blocks
from methods.generate._code_answers import Names, Solution, names_in, read_concepts, read_solution
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of
from methods.keyed import drawn_seed, keyed_hashes
from schemas.examples import turns
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using

_CATEGORIES = ("function", "function", "class", "program")
_DIFFICULTIES = ("easy", "medium", "hard")


@dataclass
class _Seen:
    """What was kept so far, for telling repeats."""

    tasks: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    functions: set[frozenset[str]] = field(default_factory=set)
    classes: set[frozenset[str]] = field(default_factory=set)

    def repeat(self, task: str, answer: str, names: Names) -> str | None:
        """Why this one repeats another, or None; then it is remembered."""
        task, answer = "".join(task.split()), "".join(answer.split())
        if task in self.tasks:
            return "repeats-task"
        if answer in self.answers:
            return "repeats-answer"
        if names.functions and names.functions in self.functions:
            return "repeats-function-names"
        if names.classes and names.classes in self.classes:
            return "repeats-class-names"
        self.tasks.add(task)
        self.answers.add(answer)
        self.functions.add(names.functions)
        self.classes.add(names.classes)
        return None


@dataclass(frozen=True)
class _Task:
    one: Given
    text: str
    pedigree: Pedigree


class SelfCodeAlign(Prompted, GenerateMethod):
    """Turns each seed's code into concepts, these into a new task, and keeps one answer whose tests pass.

    The model writes ``samples`` answers per task, each with tests; an answer is kept if it has the asked form and runs
    through with its tests in the sandbox, the first of each task, and none whose task, text, function names or class names
    are those of a kept one. Every other candidate is refused with its reason. The tests are in the evidence.

    Departs from the published code: a chat model is asked without worked examples, instead of a base model with some; all
    names of the code count, not only those of its first block; near duplicates are left to a dedup step, and the choice of
    seed functions to filter steps.

    Paper: Wei et al. 2024, https://arxiv.org/abs/2410.24198, section 2.
    """

    method: Literal["self-code-align"] = "self-code-align"
    needs: ClassVar[frozenset[str]] = frozenset({"llm", "sandbox"})
    speaks: ClassVar[tuple[str, ...]] = ("code-concepts", "code-task", "code-answer")

    samples: int = Field(10, ge=1, le=100, description="answers sampled per task")
    max_task_words: int = Field(200, ge=1, description="longer tasks are refused")
    draw: Draw = Field(Draw(max_tokens=1536, temperature=0.7), description="how everything is drawn")
    test_seconds: float = Field(10.0, gt=0, le=600, description="wall time of one answer with its tests")
    test_memory_mib: int = Field(4096, ge=64, description="memory of one answer with its tests")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Concepts, a task and ``samples`` answers per seed."""
        calls = rows * (2 + self.samples)
        return Expected(calls, round(calls * (words * TOKENS_PER_WORD + 150 + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """At most one example per seed, in an order of the draw's."""
        account, seen = Account(), _Seen()
        seed = drawn_seed(rng)
        given: list[Given] = []
        for one in given_of(seeds, account, self.name):
            if code_of(one.answer) is None:
                account.refuse(one.answer, "no-code", Pedigree((one.id,), (), {}))
            else:
                given.append(one)
        keys = keyed_hashes(pl.Series([one.id for one in given], dtype=pl.Binary), seed) if given else np.zeros(0)
        keyed = sorted(zip(map(int, keys), given, strict=True), key=lambda pair: (pair[0], pair[1].id))
        for done, part in blocks(keyed):
            tasks = self._tasks(part, seed, using, account)
            self._answers(tasks, seed, using, account, seen)
            using.progress(done, len(keyed), f"{len(account.created)} kept, {len(account.refused)} refused")
        return account.settled(seeds["id"], {"tasks": len(account.figures.get("task", []))}, self.name)

    def _tasks(self, keyed: Sequence[tuple[int, Given]], seed: int, using: Using, account: Account) -> list[_Task]:
        """A new task per seed, by way of its concepts."""
        sampling, guide = self.draw.sampling(seed % 2**31), self.prompt("code-concepts")
        asked = [Request.ask(guide.render(code=code_of(one.answer) or ""), sampling) for _, one in keyed]
        known: list[tuple[Given, Pedigree, Request]] = []
        for (key, one), reply in zip(keyed, sample(using.llm, asked), strict=True):
            pedigree = Pedigree((one.id,), tuple(calls_of([reply])), {})
            concepts = read_concepts(reply.text)
            reason = _fault(reply) or ("no-concepts" if isinstance(concepts, Unparsed) else None)
            if reason or isinstance(concepts, Unparsed):
                account.refuse(reply.text, reason or "no-concepts", pedigree)
                continue
            category, difficulty = _CATEGORIES[key % 4], _DIFFICULTIES[(key >> 8) % 3]
            about = {"category": category, "difficulty": difficulty, "concepts": ", ".join(concepts)}
            request = Request.ask(self.prompt("code-task").render(**about), sampling)
            known.append((one, pedigree.and_then((), **about), request))
        tasks: list[_Task] = []
        for (one, pedigree, _), reply in zip(known, sample(using.llm, [r for *_, r in known]), strict=True):
            pedigree, task = pedigree.and_then(calls_of([reply])), reply.text.strip()
            reason = _fault(reply) or ("task-too-long" if len(task.split()) > self.max_task_words else None)
            if reason:
                account.refuse(task, reason, pedigree)
            else:
                account.note("task", 1)
                tasks.append(_Task(one, task, pedigree.and_then(task=task)))
        return tasks

    def _answers(self, tasks: Sequence[_Task], seed: int, using: Using, account: Account, seen: _Seen) -> None:
        """Samples, reads, runs and chooses."""
        guide, sampling = self.prompt("code-answer"), self.draw.sampling(seed % 2**31)
        requests = [Request.ask(guide.render(task=task.text), sampling) for task in tasks]
        candidates: list[tuple[_Task, Solution, Pedigree]] = []
        for task, replies in zip(tasks, sample_each(using.llm, requests, self.samples), strict=True):
            for index, reply in enumerate(replies):
                pedigree = task.pedigree.and_then(calls_of([reply]), sample=index)
                read = _fault(reply) or read_solution(reply.text)
                if isinstance(read, str):
                    account.refuse(reply.text, read, pedigree)
                else:
                    candidates.append((task, read, pedigree.and_then(tests=read.tests)))
        pairs = [(solution.text, solution.tests) for _, solution, _ in candidates]
        memory = self.test_memory_mib * 2**20
        ran = outcomes_of(pairs, using.sandbox, seconds=self.test_seconds, memory_bytes=memory) if pairs else []
        for (task, solution, pedigree), outcome in zip(candidates, ran, strict=True):
            reason = outcome.reason or seen.repeat(task.text, solution.text, names_in(solution.text))
            if reason:
                account.refuse(solution.text, reason, pedigree.and_then(said=outcome.said))
            else:
                account.create(turns(("user", task.text), ("assistant", solution.text)), pedigree)


def _fault(reply: Reply) -> str | None:
    """Why a reply cannot be used, as a reason."""
    failure = failure_of(reply, complete=True)
    return failure if failure in (None, "empty", "cut-off") else f"call-{failure}"
