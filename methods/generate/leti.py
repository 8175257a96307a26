"""LeTI: programs beside what the interpreter said of them, so that a model learns good from bad."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from methods.asking.execution import outcomes_of, source_of
from methods.asking.projection import answered, prefixed
from methods.asking.sampling import Draw
from methods.generate._account import Account
from methods.generate._candidates import Candidate, FromCandidates, Question
from methods.needs import needed
from schemas.method import Using

#: Marks of the published code.
GOOD, BAD = "<|good|>", "<|bad|>"
FEEDBACK = ("<|lang_feedback|>", "<|/lang_feedback|>")


class LeTI(FromCandidates):
    """Runs every candidate program with its question's tests; each becomes a row that begins with how it went.

    The prompt then starts with ``<|good|>`` or ``<|bad|>`` and, with ``feedback``, the interpreter's last words; the answer
    is the program as it was written, right or wrong. Afterwards the model is asked with ``<|good|>`` in front. The marks
    stand in the user turn, so a loss on the assistant's tokens leaves them out. No given answer is used unless
    ``candidates`` says so. An answer without code and a question without tests are refused.

    Departs from the paper: the question's tokens are not trained on, surplus code is not cut off, one call is one round.

    Paper: Wang et al. 2023, https://arxiv.org/abs/2305.10314, section 2.
    """

    method: Literal["leti"] = "leti"
    needs: ClassVar[frozenset[str]] = needed({"llm", "student", "judge", "sandbox"}, lambda m: m.asks() | {"sandbox"})

    tests: str = Field("tests", description="field of the source row with the tests: Python source, or a list of lines")
    samples: int = Field(128, ge=1, le=1000, description="programs sampled per question")
    draw: Draw = Field(Draw(max_tokens=512, temperature=1.0), description="how programs are sampled")
    writer: Literal["llm", "student"] = Field("student", description="which model writes the programs")
    feedback: bool = Field(True, description="false: only whether it passed, without the interpreter's words")
    test_seconds: float = Field(5.0, gt=0, le=600, description="wall time of one program with its tests")
    test_memory_mib: int = Field(512, ge=64, description="memory of one program with its tests")

    def fields_named(self) -> dict[str, str | None]:
        """See `FromCandidates`: without tests nothing can be run, so nothing is sampled."""
        return {**super().fields_named(), "tests": self.tests}

    def check(self, question: Question, account: Account) -> None:
        """Wrong programs stay: they are learned as such."""

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """One row per program that ran; equal programs of one question are one row."""
        pairs: list[tuple[Question, Candidate]] = []
        for question in questions:
            seen: set[str] = set()
            for one in question.candidates:
                if one.text in seen:
                    account.refuse(one.text, "repeats-answer", one.pedigree())
                else:
                    seen.add(one.text)
                    pairs.append((question, one))
        tests = [self._tests_of(question) for question, _ in pairs]
        programs = [(one.text, source) for (_, one), source in zip(pairs, tests, strict=True)]
        memory = self.test_memory_mib * 2**20
        ran = outcomes_of(programs, using.sandbox, seconds=self.test_seconds, memory_bytes=memory) if programs else []
        for (_, one), outcome in zip(pairs, ran, strict=True):
            if outcome.reason in ("no-code", "no-tests"):
                account.refuse(one.text, outcome.reason, one.pedigree())
                continue
            passed = outcome.reason is None
            account.note("passed", passed)
            words = outcome.said or outcome.reason or ""
            said = "" if passed or not self.feedback else f"{FEEDBACK[0]}{_inside(words)}{FEEDBACK[1]}"
            shown = prefixed(one.before, f"{GOOD if passed else BAD}{said}\n")
            told = {"passed": passed, "why": outcome.reason, "said": outcome.said}
            account.create(answered(shown, one.text), one.pedigree(**told), tools=one.tools)

    def notes(self, account: Account) -> Mapping[str, Any]:
        """Share of the programs that passed."""
        return {"passed_share": account.mean("passed")}

    def _tests_of(self, question: Question) -> str:
        """The tests of the first example of the question that has any."""
        found = (source_of(member.fields.get(self.tests)) for member in question.group.members)
        return next((source for source in found if source.strip()), "")


def _inside(words: str) -> str:
    """Feedback that cannot end its own mark or pretend to be a verdict: programs write what they like."""
    for mark in (*FEEDBACK, GOOD, BAD):
        words = words.replace(mark, mark.replace("<|", "< |"))
    return words
