"""Rejection-sampling fine-tuning: of many sampled solutions, the correct ones that reason differently."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from methods.asking.answers import final_answer, official_rft_answer, same_final_answer, vote_key
from methods.asking.arithmetic import TOLERANCE, Equation, annotations, check_equation, equations_in, path_key
from methods.asking.choice import distinct
from methods.asking.projection import answered
from methods.asking.sampling import Draw
from methods.generate._account import Account
from methods.generate._candidates import Candidate, FromCandidates, Question
from schemas.method import Using


class RejectionSampling(FromCandidates):
    """Keeps, of each question's candidate solutions, one per reasoning path among those with the right final answer.

    A path is the list of its equations: calculator annotations (``<<48/2=24>>``), or, where a solution has none, the
    equations of its text. Every equation must hold. Without ``reference`` each example's own answer is the reference,
    which is taken as it stands and comes first; with it, the pool's answers are candidates like any other. Arithmetic is
    evaluated by a parser of our own (``methods.asking.arithmetic``), never by the host language.

    Departs from the published code unless ``compat: official``: every side of a chain ``a=b=c`` is checked, an annotation
    ends at ``>>`` even if it holds a ``>``, final answers are read from more than ``#### n``, a sampled path that equals
    the reference's is a repeat, and the last sample is read too. Official: the first two sides, only ``#### `` and float
    equality, the reference beside the sampled paths, the last of the samples never read (file numbers 0-99 for 1-100).

    Paper: Yuan et al. 2023, https://arxiv.org/abs/2308.01825, section 3.3.
    """

    method: Literal["rejection-sampling"] = "rejection-sampling"

    candidates: Literal["given", "sampled", "both"] = Field(
        "both", description="solutions to choose from: the pool's own, new ones, both (both: the reference stays too)"
    )
    samples: int = Field(100, ge=1, le=1000, description="solutions sampled per question")
    draw: Draw = Field(Draw(max_tokens=512, temperature=0.7), description="how solutions are sampled")
    equations: Literal["annotations", "text", "either"] = Field(
        "either",
        description="equations that make a path: annotations, those of the text, or text where none is annotated",
    )
    check_equations: bool = Field(True, description="refuse a solution in which an equation does not hold")
    equation_tolerance: float = Field(TOLERANCE, gt=0, description="how far the sides of an equation may be apart")
    key: Literal["ordered", "set", "answer"] = Field(
        "ordered", description="same path: same equations in order, same set of equations, or same final answer"
    )
    keep: Literal["first", "farthest"] = Field(
        "first", description="of equal paths the first, or the one whose text is farthest from the other paths"
    )
    max_paths: int | None = Field(None, ge=1, description="paths taken of one question, the first ones")
    compat: Literal["fixed", "official"] = Field("fixed", description="official: reproduce the published code's slips")

    def check(self, question: Question, account: Account) -> None:
        """Leaves the candidates with the right answer and equations that hold; the reference itself is not doubted."""
        if self.reference is None:
            answers = {vote_key(member.answer) for member in question.group.members if member.answer.strip()}
            question.reference = next((m.answer for m in question.group.members if m.answer.strip()), None)
            if len(answers) > 1:
                self._refuse_all(question, "conflicting-references", account)
                return
        right: list[Candidate] = []
        for one in question.candidates:
            trusted = self.reference is None and one.origin == "given"
            reason, detail = (None, {}) if trusted else self._fault(one, question.reference)
            if reason:
                account.refuse(one.text, reason, one.pedigree(**detail))
            else:
                right.append(one)
        question.candidates = right

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """One candidate per path of each question."""
        for question in questions:
            apart = self._apart(question)
            compared = [one for one in question.candidates if one not in apart]
            keys = [self.path(one.text) for one in compared]
            held = distinct(keys, [one.text for one in compared], self.keep)
            taken = sorted(held.values())[: self.max_paths]
            account.note("paths", len(taken) + len(apart))
            for one in apart:
                self._take(one, question, self.path(one.text), account)
            for i, (one, key) in enumerate(zip(compared, keys, strict=True)):
                if i in taken:
                    self._take(one, question, key, account)
                elif held[key] == i:
                    account.refuse(one.text, "over-max-paths", one.pedigree(path=key))
                else:
                    kept = compared[held[key]]
                    detail = {"path": key, "same_as": {"origin": kept.origin, "sample": kept.sample}}
                    account.refuse(one.text, "same-path", one.pedigree(**detail))

    def path(self, text: str) -> str:
        """What makes two solutions the same."""
        if self.key == "answer":
            return vote_key(text) or ""
        return path_key(self._equations(text), self.key)

    def notes(self, account: Account) -> Mapping[str, Any]:
        """How many paths a question has."""
        paths = account.figures.get("paths", [])
        return {"paths_per_question": account.mean("paths"), "questions_without_a_path": sum(n == 0 for n in paths)}

    def _equations(self, text: str) -> list[str]:
        if self.compat == "official":
            return annotations(text, "official")
        return equations_in(text, self.equations)

    def _fault(self, one: Candidate, reference: str | None) -> tuple[str | None, Mapping[str, Any]]:
        """The reason to refuse a solution, if any, and what was found."""
        if self.compat == "official" and one.sample == self.samples - 1 and one.origin == "sampled":
            return "never-read", {}
        if reference is None:
            return "no-reference", {}
        same = self._same_answer(one.text, reference)
        if not same:
            found = final_answer(one.text)
            shown = {"answer": found.text[:80] if found else None, "reference": reference[-160:]}
            return ("no-final-answer" if same is None else "wrong-answer"), shown
        if self.check_equations:
            wrong = next((e for e in map(self._checked, self._equations(one.text)) if not e.holds), None)
            if wrong is not None:
                return "invalid-equation", {"equation": wrong.text[:160], "why": wrong.why}
        return None, {}

    def _checked(self, equation: str) -> Equation:
        return check_equation(equation, tolerance=self.equation_tolerance, compat=self.compat)

    def _same_answer(self, text: str, reference: str) -> bool | None:
        if self.compat == "official":
            ours, theirs = official_rft_answer(text), official_rft_answer(reference)
            return None if ours is None or theirs is None else float(ours) == float(theirs)
        return same_final_answer(text, reference, tolerance=self.tolerance)

    def _apart(self, question: Question) -> list[Candidate]:
        """The references that the published code puts beside the sampled paths without comparing them."""
        if self.compat == "fixed" or self.reference is not None:
            return []
        return [one for one in question.candidates if one.origin == "given"]

    def _take(self, one: Candidate, question: Question, key: str, account: Account) -> None:
        found = final_answer(one.text)
        detail = {"path": key, "answer": found.text[:80] if found else None}
        account.create(answered(one.before, one.text), one.pedigree(**detail), tools=one.tools)

    def _refuse_all(self, question: Question, reason: str, account: Account) -> None:
        answers = sorted({str(vote_key(m.answer)) for m in question.group.members if m.answer.strip()})
        for one in question.candidates:
            account.refuse(one.text, reason, one.pedigree(answers=answers[:8]))
        question.candidates = []
