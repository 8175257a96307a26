"""How a task and its input become a user turn: plainly, or in one of Self-Instruct's surface forms."""

import re

import numpy as np

from methods.asking.prompts import question
from methods.generate._parse import Instance

_WITH_INPUT = (
    "{task}\nInput: {given}\nOutput:",
    "{task}\n\nInput: {given}\n\nOutput:",
    "Task: {task}\nInput: {given}\nOutput:",
    "{task}\n\n{given}\n\nOutput:",
    "{task}\n\n{given}",
    "{task}\n{given}",
    "Task: {task}\n\n{given}",
)
_WITHOUT_INPUT = (
    "{task} Output:",
    "{task}\nOutput:",
    "{task}\n\nOutput:",
    "{task}",
    "Task: {task}",
    "Task: {task}\nOutput:",
)

_FIELD = re.compile(r"(?m)^(\w+):")


def plain(task: str, instance: Instance) -> str:
    """Task, blank line, input."""
    return question(task, instance.given)


def varied(task: str, instance: Instance, rng: np.random.Generator) -> str:
    """One of seven forms with an input, six without, drawn uniformly; half the time a lone field name is dropped first.

    Departs from the paper: trailing line breaks are left out, since a chat turn ends by itself.
    """
    given = instance.given
    if rng.random() < 0.5 and len({name for name in _FIELD.findall(given)}) == 1:
        given = re.sub(r"\n{2,}", "\n", given.split(":", 1)[1].strip())
    forms = _WITH_INPUT if given else _WITHOUT_INPUT
    form = forms[int(rng.integers(len(forms)))]
    parts = {"{task}": task, "{given}": given}  # filled in one pass: a task may itself contain "{given}"
    return "".join(parts.get(part, part) for part in re.split(r"(\{task\}|\{given\})", form))
