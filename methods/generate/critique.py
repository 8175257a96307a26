"""Critique fine-tuning: rows that ask for a critique of a solution, and answer with one."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from backends.protocols import Request, Turn
from methods.asking.answers import same_final_answer
from methods.asking.parsing import Unparsed
from methods.asking.projection import answered, critique_input
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.asking.structured import ask_for
from methods.generate._account import Account
from methods.generate._candidates import Candidate, FromCandidates, Question
from schemas.method import TOKENS_PER_WORD, Expected, Using

_VERDICT = re.compile(r"conclusion\W{0,6}(right|wrong)\b", re.IGNORECASE)
_END = re.compile(r"(?<!\s)\s*\[END\]\s*$", re.IGNORECASE)


class Critique(Prompted, FromCandidates):
    """Makes, of each question and each candidate solution, a row whose answer is a teacher's critique with its verdict.

    The solutions are the pool's own (right or wrong), sampled ones, or both. A critique must end in its verdict, right or
    wrong. Where the truth is known, a critique with the other verdict is refused: with ``reference``, by comparing final
    answers with that field; without it, sampled solutions are compared with the example's own answer, and the pool's own
    are not verified. The notes say how many verdicts were right, and how many could be verified.

    Departs from the published code: verdicts are verified, ``[END]`` is left to the trainer's end of turn, and a merging
    slip that keeps only the last part of the output has no counterpart.

    Paper: Wang et al. 2025, https://arxiv.org/abs/2501.17703, section 2.
    """

    method: Literal["critique"] = "critique"
    speaks: ClassVar[tuple[str, ...]] = ("critique",)

    candidates: Literal["given", "sampled", "both"] = Field(
        "given", description="solutions to criticize: the pool's own answers, new ones, both"
    )
    samples: int = Field(1, ge=1, le=1000, description="solutions sampled per question")
    verify: bool = Field(True, description="refuse a critique whose verdict is known to be false")
    tries: int = Field(2, ge=1, le=10, description="how often one critique is asked for before its solution is refused")
    criticize: Draw = Field(Draw(max_tokens=3200, temperature=0.3, top_p=0.95), description="how the critique is drawn")

    def asks(self) -> set[str]:
        """The teacher, and the writer where solutions are sampled."""
        return super().asks() | {"llm"}

    def expected_calls(self, rows: int, words: float) -> Expected:
        """The samples, and at most ``tries`` critiques of each solution."""
        written = super().expected_calls(rows, words)
        each = words * TOKENS_PER_WORD + 100 + self.criticize.max_tokens
        calls = self.answers_of(rows) * self.tries
        return Expected(written.calls + calls, round(written.tokens + calls * each))

    def check(self, question: Question, account: Account) -> None:
        """Wrong solutions stay: they are what there is to criticize."""

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """One row per solution with a usable critique."""
        prompt = self.prompt("critique")
        pairs = [(question, one) for question in questions for one in question.candidates]
        requests = [
            Request(
                (
                    Turn("system", prompt.wording["role"]),
                    Turn("user", prompt.render(question=question.group.first.conversation, solution=one.text)),
                ),
                sampling=self.criticize.sampling(),
            )
            for question, one in pairs
        ]
        heard = ask_for(using.llm, requests, read_critique, tries=self.tries)
        for (question, one), said in zip(pairs, heard, strict=True):
            right = self._is_right(one, question)
            pedigree = one.pedigree(solution=one.text[:400], solution_is_right=right).and_then(said.calls)
            if said.value is None:
                reason = "no-verdict" if said.failure == "unparsed" else _call(said.failure)
                account.refuse(said.replies[-1].text, reason, pedigree.and_then(why=said.why[:200]))
                continue
            text, verdict = said.value
            pedigree = pedigree.and_then(verdict="right" if verdict else "wrong", verified=right is not None)
            account.note("verdict_right", verdict)
            if right is not None:
                account.note("agrees", verdict == right)
            if self.verify and right is not None and verdict != right:
                account.refuse(text, "false-verdict", pedigree)
                continue
            shown = critique_input(question.group.first.conversation, one.text)
            account.create(answered(shown, text), pedigree)

    def notes(self, account: Account) -> Mapping[str, Any]:
        """Share of verdicts that say right, and how many of those that could be verified were true."""
        verified = account.figures.get("agrees", [])
        return {
            "verdict_right_share": account.mean("verdict_right"),
            "verified": len(verified),
            "verdict_true_share": account.mean("agrees"),
        }

    def _is_right(self, one: Candidate, question: Question) -> bool | None:
        """Whether a solution is known to be right; None where nothing tells."""
        reference = question.reference
        if reference is None and one.origin == "sampled" and self.reference is None:
            reference = next((m.answer for m in question.group.members if m.answer.strip()), None)
        return None if reference is None else same_final_answer(one.text, reference, tolerance=self.tolerance)


def read_critique(text: str) -> tuple[str, bool] | Unparsed:
    r"""The critique, ending with its verdict in one form, and whether the verdict is right; nothing may follow it.

    >>> read_critique("The sum is off.\n**Conclusion: wrong** [END]")
    ('The sum is off.\n\nConclusion: wrong', False)
    """
    bare = _END.sub("", text.strip())
    found = list(_VERDICT.finditer(bare))
    if not found:
        return Unparsed('it does not end with "Conclusion: right" or "Conclusion: wrong"')
    last = found[-1]
    if bare[last.end() :].strip(" *_.!\n`"):
        return Unparsed("words follow the conclusion")
    body = bare[: last.start()].rstrip(" *_#\n`")
    if not body:
        return Unparsed("there is no critique before the conclusion")
    verdict = last[1].lower()
    return f"{body}\n\nConclusion: {verdict}", verdict == "right"


def _call(failure: str | None) -> str:
    return str(failure) if failure in ("empty", "cut-off") else f"call-{failure}"
