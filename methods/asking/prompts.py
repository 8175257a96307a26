"""The prompt shapes every method speaks, as functions from fields to text; the words are in ``methods/asking/words/*.md``.

The embedded model (`models/sprout`) is trained on exactly these shapes; change one and its held-out loss must be
measured again (`provender pretrain`).
"""

from collections.abc import Sequence

from methods.asking.prompt_files import one_line, shipped

__all__ = [
    "CLASSIFICATION_QUESTION", "CLASSIFICATION_TASKS_HEADER", "COMPARE_QUESTION", "INPUT_FIRST_HEADER",
    "OUTPUT_FIRST_HEADER", "REFLECT_AGAIN", "REFLECT_QUESTION", "TASKS_HEADER", "classification_question", "compare",
    "input_first", "instances_text", "labelled_text", "one_line", "output_first", "question", "reflect", "task_series",
]  # fmt: skip

Instances = Sequence[tuple[str, str]]

TASKS_HEADER = shipped("task-series").wording["header"]
CLASSIFICATION_TASKS_HEADER = shipped("task-series").wording["classification_header"]
CLASSIFICATION_QUESTION = shipped("classification-question").wording["header"]
INPUT_FIRST_HEADER = shipped("input-first").wording["header"]
OUTPUT_FIRST_HEADER = shipped("output-first").wording["header"]
REFLECT_QUESTION = shipped("reflect").wording["ask"]
REFLECT_AGAIN = shipped("reflect").wording["again"]
COMPARE_QUESTION = shipped("compare").wording["ask"]


def task_series(instructions: Sequence[str], header: str | None = None) -> str:
    r"""A numbered list of tasks that ends where the next one is to be written.

    >>> print(task_series(["Write  a poem\nabout X:", "Sort the list."]))
    Come up with a series of tasks:
    1. Write a poem about X
    2. Sort the list.
    3.
    """
    return shipped("task-series").render(instructions=list(instructions), header=header)


def classification_question(
    instruction: str, demonstrations: Sequence[tuple[str, bool]], header: str | None = None
) -> str:
    """Few-shot yes/no question; the reply begins right after ``Is it classification?``."""
    return shipped("classification-question").render(
        instruction=instruction, demonstrations=list(demonstrations), header=header
    )


def input_first(instruction: str, demonstrations: Sequence[tuple[str, Instances]], header: str | None = None) -> str:
    """Few-shot request for (input, output) pairs; the reply begins on the line after the task.

    A demonstration is ``(task, [(input, output), …])``; an empty input shows the direct form ``Output: …``.
    """
    return shipped("input-first").render(instruction=instruction, demonstrations=list(demonstrations), header=header)


def instances_text(pairs: Instances) -> str:
    """How instances of a task are written: ``Example k`` blocks, or ``Output:`` alone where no input is needed."""
    if len(pairs) == 1 and not pairs[0][0]:
        return f"Output: {pairs[0][1]}"
    return "\n".join(f"Example {k}\nInput: {i}\nOutput: {o}" for k, (i, o) in enumerate(pairs, start=1))


def output_first(instruction: str, demonstrations: Sequence[tuple[str, Instances]], header: str | None = None) -> str:
    """Few-shot request for one input per class label; the reply begins on the line after the task."""
    return shipped("output-first").render(instruction=instruction, demonstrations=list(demonstrations), header=header)


def labelled_text(pairs: Instances) -> str:
    """How labelled inputs are written: a ``Class label:`` line, then the input (nothing where none is needed)."""
    return "\n".join(f"Class label: {label}" + (f"\n{text}" if text else "") for text, label in pairs)


def question(instruction: str, given: str = "") -> str:
    """The user turn of an instruction and its optional input."""
    return f"{instruction}\n\n{given}" if given else instruction


def reflect(prompt: str, answer: str, ask: str | None = None) -> str:
    """First self-reflection question about a proposed answer (BSDetector), as one user turn."""
    return shipped("reflect").render(prompt=prompt, answer=answer, ask=ask)


def compare(prompt: str, first: str, second: str) -> str:
    """Pairwise judge question, as one user turn; the verdict is A (first), B (second) or tie."""
    return shipped("compare").render(prompt=prompt, first=first, second=second)
