"""From a completion to instructions and instances: total functions, each drop with its reason."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import punctuation
from typing import Literal

from methods.texts.words import words

#: ``fixed`` mends what the published code gets wrong; ``official`` reproduces it.
Compat = Literal["fixed", "official"]

#: Things a model without eyes, hands and files cannot do.
BLOCKLIST = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
    "go to",
)  # fmt: skip

_NEXT_NUMBER = re.compile(r"\n\d+\s?\. ")
_OWN_NUMBER = re.compile(r"^\s*\d+\s?\. ")
_EXAMPLE = {"official": re.compile(r"Example\s?\d+\.?"), "fixed": re.compile(r"(?m)^[ \t]*Example[ \t]*\d+[.:]?")}
_OUTPUT = re.compile(r"Output\s*+\d*+\s*+:")
_INPUT = re.compile(r"Input\s*+\d*+\s*+:")
_LABEL = {"official": re.compile(r"Class label:"), "fixed": re.compile(r"(?m)^[ \t]*Class label:")}


@dataclass(frozen=True)
class Bounds:
    """Which instructions are taken: more than ``above_words`` and at most ``at_most_words`` words, none blocklisted."""

    above_words: int = 3
    at_most_words: int = 150
    blocklist: tuple[str, ...] = BLOCKLIST


@dataclass(frozen=True)
class Candidate:
    """One instruction as the model wrote it, whitespace collapsed; ``reason`` says why it is refused, or None."""

    text: str
    reason: str | None = None


@dataclass(frozen=True)
class Instance:
    """An input (empty where the task needs none) and its output."""

    given: str
    output: str


@dataclass(frozen=True)
class Sifted:
    """Instances that stay, and those that do not with the reason."""

    kept: tuple[Instance, ...]
    refused: tuple[tuple[Instance, str], ...]


def series_items(text: str, compat: Compat = "fixed") -> list[str]:
    r"""The tasks of a numbered list whose first number stood at the end of the prompt, whitespace collapsed.

    A new task begins at a line break, digits, at most one space, a dot **and a space**. A reply that repeats the first
    number, as chat models do, is read without it (``fixed``).

    >>> series_items(" Sort the list.\n10. Name a\nfruit\n11.glued")
    ['Sort the list.', 'Name a fruit 11.glued']
    """
    if compat == "fixed":
        text = _OWN_NUMBER.sub("", text)
    items = (" ".join(item.split()) for item in _NEXT_NUMBER.split(text))
    return [item for item in items if item]


def judged(item: str, bounds: Bounds, compat: Compat = "fixed") -> Candidate:
    """The instruction with its first letter capital, and why it is refused, if it is.

    Departures of ``fixed``: the rest of the text keeps its case (the official ``capitalize`` turns NASA into nasa);
    words are counted in scripts without spaces too; an instruction may begin with a letter or digit of any script;
    "Write a program" is recognised in any case.
    """
    text = item.capitalize() if compat == "official" else item[:1].upper() + item[1:]
    return Candidate(text, refusal(text, bounds, compat))


def refusal(text: str, bounds: Bounds, compat: Compat = "fixed") -> str | None:
    """Why an instruction is refused, if it is; see ``judged``."""
    if not text:
        return "empty"
    n_words = len(text.split())
    if compat == "fixed" and not text.isascii():
        n_words = max(n_words, len(words(text)))
    if n_words <= bounds.above_words:
        return "too-short"
    if n_words > bounds.at_most_words:
        return "too-long"
    if bounds.blocklist and _blocked(bounds.blocklist).search(text):
        return "blocklisted"
    start = text[:15].lower() if compat == "fixed" else text[:15]
    if start == ("write a program" if compat == "fixed" else "Write a program"):
        return "asks-for-a-program"
    odd = not text[0].isalnum() if compat == "fixed" else text[0] in punctuation or not text[0].isascii()
    return "odd-start" if odd else None


@lru_cache(maxsize=8)
def _blocked(blocklist: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b{re.escape(word)}\b" for word in blocklist), re.IGNORECASE)


def task_instances(text: str, *, cut_off: bool, compat: Compat = "fixed") -> list[Instance]:
    r"""Instances written input first. Without an ``Example`` and an ``Output:`` marker there are none.

    ``fixed`` reads an ``Example k`` marker only at the start of a line, so that an output may mention "Example 2".
    ``cut_off`` (the token limit ended the reply) drops the last one.

    >>> task_instances("Example 1\nInput: 3, 1\nOutput: 1, 3", cut_off=False)
    [Instance(given='3, 1', output='1, 3')]
    """
    text = text.strip()
    if _EXAMPLE[compat].search(text):
        found = [_input_and_output(chunk.strip()) for chunk in _EXAMPLE[compat].split(text) if chunk.strip()]
    elif _OUTPUT.search(text):
        found = [_input_and_output(text)]
    else:
        found = []
    return found[:-1] if cut_off else found


def _input_and_output(chunk: str) -> Instance:
    pieces = _OUTPUT.split(chunk)
    given, output = (pieces[0], pieces[1]) if len(pieces) > 1 else ("", chunk)
    output = _INPUT.split(output)[0].strip()
    return Instance(re.sub(r"^Input\s*+\d*+\s*+:", "", given.strip()).strip(), output)


def labelled_instances(text: str, *, cut_off: bool, compat: Compat = "fixed") -> list[Instance]:
    r"""Instances written label first: the label is the output, the lines below it the input.

    >>> labelled_instances("Class label: Positive\nSentence: good day", cut_off=False)
    [Instance(given='Sentence: good day', output='Positive')]
    """
    pieces = _LABEL[compat].split(text.strip())[1:]
    found: list[Instance] = []
    for piece in pieces:
        label, _, given = piece.strip().partition("\n")
        found.append(Instance(given.strip(), label.strip()))
    return found[:-1] if cut_off else found


def sifted(instances: Sequence[Instance], task: str = "") -> Sifted:
    """Invalid instances out one by one; all of them where one input has two outputs; repeats once, in first order.

    The official code keeps repeats in no defined order; here the order is that of writing. With a ``task`` an output
    that only repeats it is invalid too.
    """
    refused = [(instance, reason) for instance in instances if (reason := _fault(instance, task))]
    sound = [instance for instance in instances if not _fault(instance, task)]
    outputs: dict[str, set[str]] = {}
    for instance in sound:
        if instance.given:
            outputs.setdefault(instance.given, set()).add(instance.output)
    if any(len(different) > 1 for different in outputs.values()):
        return Sifted((), (*refused, *((instance, "instances-contradict") for instance in sound)))
    kept = tuple(dict.fromkeys(sound))
    seen: set[Instance] = set()
    for instance in sound:
        if instance in seen:
            refused.append((instance, "repeated-instance"))
        seen.add(instance)
    return Sifted(kept, tuple(refused))


def _fault(instance: Instance, task: str) -> str | None:
    if not instance.output:
        return "empty-output"
    if task and instance.output == task:
        return "output-equals-task"
    if instance.given == instance.output:
        return "input-equals-output"
    if instance.given.endswith(":") or instance.output.endswith(":"):
        return "ends-with-colon"
    return None
