"""Evol-Instruct: prompts made harder or rarer round by round, answered, and dropped where that failed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, field_validator

from backends.protocols import Request
from methods.asking.parsing import Unparsed, yes_or_no
from methods.asking.projection import Messages, answered, asking
from methods.asking.prompted import Prompted
from methods.asking.rewriting import refusal_of
from methods.asking.sampling import Draw, calls_of, sample
from methods.asking.structured import Asking, ask_for, ask_for_model
from methods.generate._account import Account
from methods.generate._elimination import answer_fault, prompt_fault, tidied
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of, turns_before
from methods.keyed import drawn_seed, keyed_uniform
from methods.needs import needed
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using

OPERATORS = ("constraints", "deepen", "concretize", "reasoning", "breadth")


class SameDemand(BaseModel):
    """A judge's opinion of whether an evolution changed what a prompt demands."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(description="one sentence")
    equal: bool = Field(description="true when both prompts demand the same")


@dataclass(frozen=True)
class Line:
    """A seed's prompt as it stands: after how many evolutions, by which operators, at the cost of which calls."""

    seed: Given
    prompt: str
    operators: tuple[str, ...] = ()
    calls: tuple[bytes, ...] = ()

    def pedigree(self, round: int, operator: str) -> Pedigree:
        """Where an evolution of this prompt comes from."""
        told = {"round": round, "operator": operator, "before": list(self.operators), "evolved_from": self.prompt[:400]}
        return Pedigree((self.seed.id,), self.calls, told)


@dataclass
class Run:
    """What one call of ``generate`` has so far; ``last`` is the last survivor of each seed, where only that counts."""

    account: Account
    using: Using
    seed: int
    survived: Counter[int] = field(default_factory=Counter)
    last: dict[bytes, tuple[str, Messages, Pedigree, str | None]] = field(default_factory=dict)


#: An evolved prompt: which line it is of, its text, and where it came from.
Evolved = tuple[int, str, Pedigree]


class EvolInstruct(Prompted, GenerateMethod):
    """Evolves the last question of each example, in depth (four ways) or in breadth, and has the result answered.

    In every round each prompt gets one operator, drawn by weight from the example's own chance. An evolution is
    eliminated when its text shows that it was not followed, when a judge finds that it demands the same as before, or when
    its answer is a short refusal or says nothing; the prompt before it then goes on to the next round. Every survivor
    becomes an example (``keep: all``), or only the last of each seed. The operators a prompt went through and the prompt
    it evolved from are in the evidence.

    Departs from the published code, which evolves once and eliminates nothing (``compat: official``); the elimination
    rules are the paper's. A judge that cannot be read eliminates, with a reason of its own.

    Paper: Xu et al. 2023, https://arxiv.org/abs/2304.12244, sections 3.2 and 3.3.
    """

    method: Literal["evol-instruct"] = "evol-instruct"
    needs: ClassVar[frozenset[str]] = needed(
        {"llm", "judge"}, lambda method: {"llm", "judge"} if method.judges_gain else {"llm"}
    )
    speaks: ClassVar[tuple[str, ...]] = ("evolve-depth", "evolve-breadth", "same-demand")

    rounds: int = Field(4, ge=1, le=20, description="evolutions of each prompt, one after the other")
    operators: dict[str, float] = Field(
        default_factory=lambda: dict.fromkeys(OPERATORS, 1.0),
        description=f"weights of the ways to evolve: {', '.join(OPERATORS)}",
    )
    added_words: int = Field(20, ge=1, description="words that an evolution in depth is told to add at most")
    max_added_words: int | None = Field(
        None, ge=1, description="an evolution in depth that adds more words is eliminated; null: no such rule"
    )
    eliminate: bool = Field(True, description="apply the elimination rules")
    judge_gain: bool = Field(True, description="with eliminate: ask a judge whether anything was gained")
    keep: Literal["all", "last"] = Field("all", description="every surviving evolution, or the last of each seed")
    evolving: Draw = Field(
        Draw(max_tokens=512, temperature=1.0, top_p=0.95), description="how an evolved prompt is drawn"
    )
    draw: Draw = Field(Draw(max_tokens=2048, temperature=1.0, top_p=0.95), description="how its answer is drawn")
    judging: Asking = Field(Asking(), description="how the judge is asked")
    compat: Literal["fixed", "official"] = Field("fixed", description="official: one round, nothing eliminated")

    @field_validator("operators")
    @classmethod
    def _are_known(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(weights.keys() - set(OPERATORS))
        if unknown or min(weights.values(), default=0) < 0 or not sum(weights.values()) > 0:
            raise ValueError(f"operators are weights (at least 0, not all 0) of {', '.join(OPERATORS)}")
        return weights

    @property
    def eliminates(self) -> bool:
        """Whether the elimination rules hold."""
        return self.eliminate and self.compat == "fixed"

    @property
    def judges_gain(self) -> bool:
        """Whether a judge is asked for the gain of each evolution."""
        return self.eliminates and self.judge_gain

    def expected_calls(self, rows: int, words: float) -> Expected:
        """An evolution, its answer and a verdict per example and round."""
        rounds = self.rounds if self.compat == "fixed" else 1
        judged = self.judging.tries if self.judges_gain else 0
        asked = words * TOKENS_PER_WORD + self.evolving.max_tokens
        each = asked + asked + self.draw.max_tokens + judged * (2 * asked + self.judging.draw.max_tokens)
        return Expected(rows * rounds * (2 + judged), round(rows * rounds * each))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """The surviving evolutions, in order of rounds and then of ids; each that was eliminated has its reason."""
        run = Run(Account(), using, drawn_seed(rng))
        given = given_of(seeds, run.account, self.name, answered=False)
        lines = [Line(one, one.question.strip()) for one in given]
        rounds = self.rounds if self.compat == "fixed" else 1
        for number in range(1, rounds + 1):
            for start in range(0, len(lines), _LINES_AT_ONCE):
                part = lines[start : start + _LINES_AT_ONCE]
                lines[start : start + len(part)] = self._round(number, part, run)
                done = (number - 1) * len(lines) + start + len(part)
                using.progress(done, rounds * len(lines), f"round {number}: {run.survived[number]} survived")
        for _, messages, pedigree, tools in run.last.values():
            run.account.create(messages, pedigree, tools=tools)
        per_round = {str(number): run.survived[number] for number in range(1, rounds + 1)}
        return run.account.settled(seeds["id"], {"survived_per_round": per_round}, self.name)

    def _round(self, number: int, lines: Sequence[Line], run: Run) -> list[Line]:
        """The lines as they stand after this round; survivors are created, or held where only the last counts."""
        operators = self._drawn(lines, run.seed + number)
        sampling = self.evolving.sampling(run.seed % 2**31, index=number)
        requests = [
            Request.ask(self._evolution(line.prompt, operator), sampling)
            for line, operator in zip(lines, operators, strict=True)
        ]
        replies = sample(run.using.llm, requests)
        evolved: list[Evolved] = []
        for i, (line, operator, reply) in enumerate(zip(lines, operators, replies, strict=True)):
            text = tidied(reply.text)
            pedigree = line.pedigree(number, operator).and_then(calls_of([reply]))
            reason = refusal_of(reply) or (None if text else "empty")
            if reason is None and self.eliminates:
                limit = None if operator == "breadth" else self.max_added_words
                reason = prompt_fault(line.prompt, text, max_added_words=limit)
            if reason:
                run.account.refuse(text, reason, pedigree)
            else:
                evolved.append((i, text, pedigree))
        if self.judges_gain:
            evolved = self._with_gain(evolved, lines, run)
        return self._answer(number, evolved, list(lines), run)

    def _with_gain(self, evolved: Sequence[Evolved], lines: Sequence[Line], run: Run) -> list[Evolved]:
        """Those that a judge finds to demand something else than before."""
        prompt, text_form = self.prompt("same-demand"), self.judging.form == "text"
        requests = [
            Request.ask(
                prompt.render(first=lines[i].prompt, second=text, as_text=None if text_form else ""),
                self.judging.draw.sampling(),
            )
            for i, text, _ in evolved
        ]
        judge, tries = run.using.judge, self.judging.tries
        if text_form:
            heard = ask_for(judge, requests, read_equal, tries=tries)
        else:
            shaped = ask_for_model(judge, requests, SameDemand, tries=tries)
            heard = [one.map(lambda said: said.equal) for one in shaped]
        left: list[Evolved] = []
        for (i, text, pedigree), one in zip(evolved, heard, strict=True):
            pedigree = pedigree.and_then(one.calls)
            if one.value is False:
                left.append((i, text, pedigree))
            else:
                reason = f"unjudged-{one.failure}" if one.value is None else "no-information-gain"
                run.account.refuse(text, reason, pedigree)
        return left

    def _answer(self, number: int, evolved: Sequence[Evolved], lines: list[Line], run: Run) -> list[Line]:
        """Has the evolved prompts answered; those with a good answer take their line's place."""
        sampling = self.draw.sampling(run.seed % 2**31)
        asked = [asking(lines[i].seed.before, text) for i, text, _ in evolved]
        requests = [Request(turns_before(messages), sampling=sampling) for messages in asked]
        replies = sample(run.using.llm, requests)
        for (i, text, pedigree), messages, reply in zip(evolved, asked, replies, strict=True):
            pedigree = pedigree.and_then(calls_of([reply]))
            answer = reply.text.strip()
            reason = refusal_of(reply) or (answer_fault(answer) if self.eliminates else None)
            if reason:
                run.account.refuse(text, reason, pedigree.and_then(answer=answer[:400]))
                continue
            run.survived[number] += 1
            operator = str(pedigree.evidence["operator"])
            lines[i] = replace(lines[i], prompt=text, operators=(*lines[i].operators, operator), calls=pedigree.calls)
            self._take(lines[i], answered(messages, answer), pedigree, run)
        return lines

    def _take(self, line: Line, messages: Messages, pedigree: Pedigree, run: Run) -> None:
        if self.keep == "all":
            run.account.create(messages, pedigree, tools=line.seed.tools)
            return
        if line.seed.id in run.last:
            text, _, before, _ = run.last[line.seed.id]
            run.account.refuse(text, "superseded", before)
        run.last[line.seed.id] = (line.prompt, messages, pedigree, line.seed.tools)

    def _drawn(self, lines: Sequence[Line], seed: int) -> list[str]:
        """One operator per line, by weight, from the chance of the line's seed example."""
        names = [name for name in OPERATORS if self.operators.get(name, 0) > 0]
        edges = np.cumsum([self.operators[name] for name in names])
        ids = pl.Series([line.seed.id for line in lines], dtype=pl.Binary)
        places = np.searchsorted(edges, keyed_uniform(ids, seed) * edges[-1], side="right")
        return [names[min(int(place), len(names) - 1)] for place in places]

    def _evolution(self, prompt: str, operator: str) -> str:
        if operator == "breadth":
            return self.prompt("evolve-breadth").render(prompt=prompt)
        depth = self.prompt("evolve-depth")
        return depth.render(prompt=prompt, added_words=self.added_words, how=depth.wording[operator])


_LINES_AT_ONCE = 1024


def read_equal(text: str) -> bool | Unparsed:
    """What a judge says after ``equal:``, or by its first word.

    >>> read_equal("reason: a second limit, equal: no"), read_equal("Equal"), read_equal("Not Equal")
    (False, True, False)
    """
    _, mark, tail = text.lower().rpartition("equal:")
    if mark:
        return yes_or_no(tail)
    said = text.strip().strip(".").lower()
    if said in ("equal", "not equal"):
        return said == "equal"
    return yes_or_no(text)
