"""From an example to other training rows: the same facts in another shape, nothing invented.

Each function takes turns (``role``, ``content``, ``extra``) and gives turns; the last one is what is learned.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.examples import turns

Messages = list[dict[str, str | None]]

#: Prefixes of the two tasks of distilling step-by-step.
PREDICT = "predict: "
EXPLAIN = "explain: "

#: Marks of reflective augmentation, in this order.
REFLECTION = "Reflection:"
ALTERNATIVE = "Alternative Reasoning:"
FOLLOW_UP = "Follow-up Reasoning:"


def answered(before: Sequence[Mapping[str, Any]], answer: str) -> Messages:
    """The turns before an answer with this answer."""
    return [*copied(before), {"role": "assistant", "content": answer, "extra": None}]


def response_only(answer: str, *, empty_prompt: bool = False) -> Messages:
    """The answer without what it answers; with an empty user turn for trainers that want one."""
    return turns(*([("user", "")] if empty_prompt else []), ("assistant", answer))


def prefixed(before: Sequence[Mapping[str, Any]], prefix: str) -> Messages:
    """The turns with ``prefix`` in front of the last user turn: one task of a multi-task row."""
    return replaced(before, lambda text: f"{prefix}{text}")


def asking(before: Sequence[Mapping[str, Any]], prompt: str) -> Messages:
    """The turns with another last user turn."""
    return replaced(before, lambda _: prompt)


def replaced(before: Sequence[Mapping[str, Any]], change: Callable[[str], str]) -> Messages:
    """The turns with the last user turn's content changed; unchanged where there is none."""
    messages = copied(before)
    for turn in reversed(messages):
        if turn["role"] == "user":
            turn["content"] = change(turn["content"] or "")
            break
    return messages


def critique_input(question: str, solution: str) -> Messages:
    """A question and a solution to be criticized, as critique fine-tuning writes them."""
    return turns(("user", f"Question:\n{question}\n\nSolution:\n{solution}"))


def reflected(answer: str, reflection: str) -> str:
    """The answer, unchanged, and after it the reflection under its mark."""
    return f"{answer}\n\n{REFLECTION}\n{reflection.strip()}"


def copied(messages: Sequence[Mapping[str, Any]]) -> Messages:
    """Fresh turns of the same content."""
    return [{"role": turn["role"], "content": turn["content"], "extra": turn.get("extra")} for turn in messages]
