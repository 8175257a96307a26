"""RefAug: every solution continued by a reflection, another way to the answer and where it leads."""

import re
from collections import Counter
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request
from methods.asking.answers import final_answer, same_answer
from methods.asking.parsing import Unparsed
from methods.asking.projection import ALTERNATIVE, FOLLOW_UP, REFLECTION, answered, reflected
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.asking.structured import ask_for, unheard
from methods.generate._account import Account
from methods.generate._candidates import blocks
from methods.generate._ledger import Pedigree
from methods.generate._pool import given_of
from methods.keyed import drawn_seed
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


class Reflection(Prompted, GenerateMethod):
    """Appends to each answer a reflection: ``Alternative Reasoning`` and ``Follow-up Reasoning``, under ``Reflection:``.

    The answer itself stays, letter by letter, in front. Both marks stand once, in order, with text under them, and the
    reflection was not cut off. When training is over, generation stops at ``Reflection:``, so that nothing more is paid.

    Departs from the published code: an alternative that states another final answer than the given one is refused
    (``check``), and a reply without its marks is asked for again.

    Paper: Zhang et al. 2024, https://arxiv.org/abs/2406.12050, section 3.
    """

    method: Literal["reflection"] = "reflection"
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})
    speaks: ClassVar[tuple[str, ...]] = ("reflect-on-solution",)

    check: bool = Field(True, description="refuse an alternative that states another final answer than the given one")
    tries: int = Field(
        2, ge=1, le=10, description="how often one reflection is asked for before the example is refused"
    )
    draw: Draw = Field(Draw(max_tokens=1024, temperature=0.7), description="how the reflection is drawn")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most ``tries`` calls per example."""
        calls = rows * self.tries
        return Expected(calls, round(calls * (words * TOKENS_PER_WORD + 120 + self.draw.max_tokens)))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """One example per seed whose reflection could be used, in order of ids."""
        account = Account()
        seed = drawn_seed(rng) % 2**31
        given = given_of(seeds, account, self.name)
        prompt, sampling = self.prompt("reflect-on-solution"), self.draw.sampling(seed)
        lost: Counter[str] = Counter()
        for done, part in blocks(given):
            for one in part:
                if REFLECTION in one.answer:
                    account.refuse(one.answer, "already-reflected", Pedigree((one.id,), (), {}))
            plain = [one for one in part if REFLECTION not in one.answer]
            requests = [
                Request.ask(prompt.render(question=one.conversation, solution=one.answer), sampling) for one in plain
            ]
            heard = ask_for(using.llm, requests, read_reflection, tries=self.tries)
            lost.update(unheard(heard))
            for one, said in zip(plain, heard, strict=True):
                pedigree = Pedigree((one.id,), said.calls, {"asked": len(said.replies)})
                if said.value is None:
                    reason = {"unparsed": "marks-missing", "cut-off": "cut-off", "empty": "empty"}
                    why = pedigree.and_then(why=said.why[:200])
                    account.refuse(said.replies[-1].text, reason.get(str(said.failure), f"call-{said.failure}"), why)
                elif self.check and (other := _other_answer(said.value, one.answer)) is not None:
                    account.refuse(said.value, "other-answer", pedigree.and_then(stated=other[:160]))
                else:
                    account.create(answered(one.before, reflected(one.answer, said.value)), pedigree, tools=one.tools)
            using.progress(done, len(given), f"{len(account.created)} reflections")
        return account.settled(seeds["id"], {"unread": dict(lost)}, self.name)


def read_reflection(text: str) -> str | Unparsed:
    r"""The two parts under their marks, without a heading above them; emphasis around the marks is dropped.

    >>> read_reflection("**Alternative Reasoning:** Halve it.\n**Follow-up Reasoning:** Thrice.")
    'Alternative Reasoning:\nHalve it.\n\nFollow-up Reasoning:\nThrice.'
    """
    places = [list(re.finditer(_mark(mark), text, re.IGNORECASE)) for mark in (ALTERNATIVE, FOLLOW_UP)]
    if [len(found) for found in places] != [1, 1]:
        return Unparsed(
            f'it does not have the marks "{ALTERNATIVE}" and "{FOLLOW_UP}" once each at the start of a line'
        )
    (first,), (second,) = places
    if first.start() > second.start():
        return Unparsed("the marks are in the wrong order")
    alternative, follow_up = text[first.end() : second.start()].strip(), text[second.end() :].strip()
    if not alternative or not follow_up:
        return Unparsed("there is no text under a mark")
    return f"{ALTERNATIVE}\n{alternative}\n\n{FOLLOW_UP}\n{follow_up}"


def _mark(mark: str) -> str:
    return rf"(?m)^[ \t*#_]*{re.escape(mark[:-1])}[*_]*:[*_]*"


def _other_answer(reflection: str, answer: str) -> str | None:
    """The final answer that the alternative states, if it is another than the given one; None where either states none."""
    alternative = reflection.partition(FOLLOW_UP)[0]
    stated, wanted = final_answer(alternative, guess=False), final_answer(answer)
    if stated is None or wanted is None or wanted.where == "last-number" or same_answer(stated.text, wanted.text):
        return None
    return stated.text
