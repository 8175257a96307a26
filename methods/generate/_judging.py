"""Verdicts on answers: right or not, given a reference; by a judge or by comparing final answers."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backends.protocols import LLM, Request
from methods.asking.answers import final_answer, same_final_answer
from methods.asking.parsing import letter_of
from methods.asking.prompt_files import Prompt
from methods.asking.rewriting import Passed
from methods.asking.structured import Asking, ask_for, ask_for_model
from methods.generate._pool import Given


class Verdict(BaseModel):
    """A judge's opinion of whether an answer is right."""

    model_config = ConfigDict(extra="forbid")

    explanation: str = Field(description="one sentence")
    answer: Literal["A", "B", "C"] = Field(description="A correct, B incorrect, C not certain")


def judged(pairs: Sequence[tuple[Given, str]], prompt: Prompt, judge: LLM, asking: Asking) -> list[Passed]:
    """Whether each answer is as right as the example's own; what a judge is not certain of, or does not say, is not."""
    requests = [
        Request.ask(
            prompt.render(
                question=given.conversation,
                reference=given.answer,
                answer=answer,
                as_text=None if asking.form == "text" else "",
            ),
            asking.draw.sampling(),
        )
        for given, answer in pairs
    ]
    if asking.form == "text":
        heard = ask_for(judge, requests, letter_of, tries=asking.tries)
    else:
        shaped = ask_for_model(judge, requests, Verdict, tries=asking.tries)
        heard = [one.map(lambda said: str(said.answer)) for one in shaped]
    reasons = {"A": None, "B": "judged-incorrect", "C": "judge-not-certain"}
    return [
        Passed(reasons[one.value] if one.value else f"unjudged-{one.failure}", one.calls, {"verdict": one.value})
        for one in heard
    ]


def matched(pairs: Sequence[tuple[Given, str]], *, tolerance: float) -> list[Passed]:
    """Whether each answer ends with the example's own final answer."""
    found: list[Passed] = []
    for given, answer in pairs:
        same = same_final_answer(answer, given.answer, tolerance=tolerance)
        said = final_answer(answer)
        reason = None if same else "no-final-answer" if same is None else "wrong-answer"
        found.append(Passed(reason, detail={"answer": said.text[:80] if said else None}))
    return found
