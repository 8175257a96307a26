"""Tasks for SELF-GUIDE: what one is, out of seed examples that share an instruction, and how it is put to a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from backends.protocols import Request, Turn
from methods.asking.prompt_files import Prompt
from methods.asking.sampling import Draw
from methods.generate._parse import Instance
from methods.generate._seeds import Seed

Kind = Literal["auto", "classification", "generation"]
PromptOf = Callable[[str], Prompt]


@dataclass(frozen=True)
class GuideTask:
    """One task: its instruction, a few examples by people, and the labels it may be answered with (none: any text)."""

    name: str
    instruction: str
    gold: tuple[Instance, ...]
    labels: tuple[str, ...]
    parents: tuple[bytes, ...]

    @property
    def is_classification(self) -> bool:
        """Whether the output is one of a few labels."""
        return bool(self.labels)


def tasks_of(seeds: Sequence[Seed], kind: Kind = "auto", labels: Sequence[str] = ()) -> list[GuideTask]:
    """Seeds of one instruction make one task, in order of appearance; examples that repeat count once.

    Its labels are the ones given, else those its seeds name, else the outputs of its examples. A task whose seeds do
    not say that it is a classification task is one under ``auto`` only if its seeds name labels.
    """
    groups: dict[str, list[Seed]] = {}
    for seed in seeds:
        if seed.instances:
            groups.setdefault(seed.instruction, []).append(seed)
    return [_task(instruction, group, kind, labels) for instruction, group in groups.items()]


def _task(instruction: str, group: Sequence[Seed], kind: Kind, labels: Sequence[str]) -> GuideTask:
    gold = tuple(dict.fromkeys(instance for seed in group for instance in seed.instances))
    named = tuple(labels) or tuple(dict.fromkeys(label for seed in group for label in seed.labels))
    says = any(seed.is_classification for seed in group)
    if kind == "classification" or (kind == "auto" and (says or named)):
        named = named or tuple(dict.fromkeys(instance.output for instance in gold))
    else:
        named = ()
    return GuideTask(
        name=next((seed.name for seed in group if seed.name), " ".join(instruction.split())[:60]),
        instruction=instruction,
        gold=gold,
        labels=named,
        parents=tuple(dict.fromkeys(seed.id for seed in group)),
    )


@dataclass(frozen=True)
class Asking:
    """How prompts are put: as a chat or as text to go on from, and how many words one may have at most."""

    ask_as: Literal["chat", "continuation"]
    prompt_of: PromptOf
    at_most_words: int


@dataclass(frozen=True)
class InputAsk:
    """One request for a new input: what it asks, which earlier inputs (positions) it shows, and for which label."""

    text: str
    shown: tuple[int, ...]
    label: str | None


def input_ask(
    task: GuideTask, made: Sequence[str], most_shown: int, asking: Asking, rng: np.random.Generator
) -> InputAsk:
    """A prompt with the examples in random order, 1 to ``most_shown`` earlier inputs, and a label drawn uniformly.

    Where it has too many words it shows fewer earlier inputs, then fewer examples, one at least (see `without_long`).
    """
    label = task.labels[int(rng.integers(len(task.labels)))] if task.labels else None
    gold = [task.gold[int(i)] for i in rng.permutation(len(task.gold))]
    count = int(rng.integers(1, min(most_shown, len(made)) + 1)) if made and most_shown else 0
    shown = [int(i) for i in rng.choice(len(made), size=count, replace=False)] if count else []
    while True:
        text = _input_text(task, gold, [made[i] for i in shown], label, asking)
        if len(text.split()) <= asking.at_most_words or not (shown or len(gold) > 1):
            return InputAsk(text, tuple(shown), label)
        (shown or gold).pop()


def without_long(task: GuideTask, asking: Asking) -> tuple[GuideTask, tuple[Instance, ...]]:
    """The task without the examples that alone make a prompt of too many words, for some label; and those examples."""

    def words(instance: Instance) -> int:
        asked = (_input_text(task, [instance], [], label, asking) for label in task.labels or (None,))
        return max(len(text.split()) for text in asked)

    long = tuple(instance for instance in task.gold if words(instance) > asking.at_most_words)
    return (replace(task, gold=tuple(i for i in task.gold if i not in long)) if long else task), long


def _input_text(
    task: GuideTask, gold: Sequence[Instance], others: Sequence[str], label: str | None, asking: Asking
) -> str:
    if asking.ask_as == "chat":
        return asking.prompt_of("guide-input").render(
            instruction=task.instruction, good_inputs=[i.given for i in gold], other_inputs=others, label=label or ""
        )
    last = sorted(gold, key=lambda instance: instance.output == label)  # stable: those of the wanted label come last
    return asking.prompt_of("guide-input-series").render(
        instruction=task.instruction,
        good_inputs=[(i.given, i.output) for i in last],
        other_inputs=others,
        label=label or "",
    )


def output_request(task: GuideTask, given: str, draw: Draw, seed: int, asking: Asking) -> Request:
    """A request for the output of an input, after the examples; the last ones are left out where there are too many words."""
    gold = list(task.gold)
    while len(gold) > 1 and _words(task, gold, given) > asking.at_most_words:
        gold.pop()
    sampling = draw.sampling(seed)
    if asking.ask_as == "continuation":
        pairs = [(i.given, i.output) for i in gold]
        prompt = asking.prompt_of("guide-output-series")
        text = prompt.render(instruction=task.instruction, examples=pairs, given=given)
        return Request(prompt=text, sampling=sampling)
    return Request(messages=annotation_turns(task, gold, given, asking.prompt_of), sampling=sampling)


def annotation_turns(task: GuideTask, gold: Sequence[Instance], given: str, prompt_of: PromptOf) -> tuple[Turn, ...]:
    """The conversation whose next turn is the output of ``given``: what to do, worked examples, the input."""
    system = prompt_of("guide-output").render(instruction=task.instruction, labels=list(task.labels))
    return (Turn("system", system), *shot_turns(gold), Turn("user", given))


def shot_turns(gold: Sequence[Instance]) -> list[Turn]:
    """Worked examples as turns."""
    return [turn for i in gold for turn in (Turn("user", i.given), Turn("assistant", i.output))]


def _words(task: GuideTask, gold: Sequence[Instance], given: str) -> int:
    texts = [task.instruction, given, *(part for i in gold for part in (i.given, i.output))]
    return sum(len(text.split()) for text in texts)
