"""Seed examples as tasks: the instruction, its instances, and whether it is a classification task, where known."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from methods.generate._parse import Instance

_MARKERS = re.compile(r"(?mi)^[^\S\n]*+(?:example\s*+\d|(?:task|input|output|class label)\s*+\d*+\s*+:)")


@dataclass(frozen=True)
class Seed:
    """A task that a person wrote. ``is_classification`` is None where the source does not say.

    ``name`` and ``labels`` (the possible answers) are what the source calls them, empty where it does not.
    """

    id: bytes
    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool | None = None
    name: str = ""
    labels: tuple[str, ...] = ()

    @property
    def n_words(self) -> int:
        """Words of the task and its instances together, split at whitespace."""
        texts = [self.instruction, *(part for i in self.instances for part in (i.given, i.output))]
        return sum(len(text.split()) for text in texts)

    @property
    def can_demonstrate(self) -> bool:
        """Whether the text can stand in a few-shot prompt without being read as its markers."""
        texts = [self.instruction, *(part for i in self.instances for part in (i.given, i.output))]
        return bool(self.instances) and not any(_MARKERS.search(text) for text in texts)


def seeds_of(examples: pl.DataFrame) -> list[Seed]:
    """Seeds in the order of the frame (EXAMPLES columns), each id once; those without a user turn are left out.

    A Self-Instruct seed file keeps ``instruction``, ``instances`` and ``is_classification`` in ``extra``; of any other
    example the first user turn is the instruction (less the input it ends with, where ``extra`` names one), and the
    answer to it the one instance.
    """
    found: dict[bytes, Seed] = {}
    for row in examples.select("id", "messages", "extra").iter_rows(named=True):
        seed = _seed(row["id"], row["messages"] or [], _mapping(row["extra"]))
        if seed is not None:
            found.setdefault(seed.id, seed)
    return list(found.values())


def _seed(id: bytes, messages: Sequence[Mapping[str, Any]], extra: Mapping[str, Any]) -> Seed | None:
    asked = next((i for i, turn in enumerate(messages) if turn["role"] == "user" and turn["content"]), None)
    if asked is None:
        return None
    text = str(messages[asked]["content"]).strip()
    answer = messages[asked + 1] if asked + 1 < len(messages) else {"role": "", "content": ""}
    output = str(answer["content"] or "").strip() if answer["role"] == "assistant" else ""
    instances = _instances(extra.get("instances"))
    stated = extra.get("instruction")
    inputs = [extra.get("input"), *(instance.given for instance in instances)]
    tails = [f"\n\n{given.strip()}" for given in inputs if isinstance(given, str) and given.strip()]
    tail = next((tail for tail in tails if text.endswith(tail)), "")
    given = tail.strip()
    instruction = stated.strip() if isinstance(stated, str) and stated.strip() else text.removesuffix(tail).strip()
    if not instances and output:
        instances = (Instance(given, output),)
    label = extra.get("is_classification")
    name, labels = extra.get("task"), extra.get("labels")
    return Seed(
        id=id,
        instruction=instruction,
        instances=instances,
        is_classification=label if isinstance(label, bool) else None,
        name=name.strip() if isinstance(name, str) else "",
        labels=tuple(dict.fromkeys(x.strip() for x in labels if isinstance(x, str) and x.strip()))
        if isinstance(labels, list)
        else (),
    )


def _instances(value: Any) -> tuple[Instance, ...]:
    found: list[Instance] = []
    for item in value if isinstance(value, list) else []:
        given, output = (item.get("input"), item.get("output")) if isinstance(item, dict) else (None, None)
        if isinstance(given, str) and isinstance(output, str) and output.strip():
            found.append(Instance(given.strip(), output.strip()))
    return tuple(found)


def _mapping(text: str | None) -> Mapping[str, Any]:
    """The row's other fields; what is not a JSON object says nothing about the task."""
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
