"""The pipeline's prompt shapes as training documents: each call renders items afresh, so no two epochs are alike.

A document is a list of parts with a loss weight each: 0 for what is only read, 1 for what is to be written. Prompts
come from ``methods.asking.prompts``, so that the model is trained on exactly what the methods will send.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from backends.train.sprout_items import Corpus, Item, Task
from backends.train.sprout_judgements import (
    Judged,
    asked_text,
    draw_by_share,
    draw_comparison,
    draw_reflection,
    judgeable,
)
from backends.train.sprout_tokenizer import END_OF_TEXT, END_OF_TURN, START_OF_TURN
from methods.asking.prompts import (
    CLASSIFICATION_TASKS_HEADER,
    TASKS_HEADER,
    classification_question,
    input_first,
    instances_text,
    labelled_text,
    one_line,
    output_first,
    task_series,
)

Shape = Literal[
    "task_series", "classification_question", "input_first", "output_first", "answer", "compare", "reflect", "text"
]
SHAPES: tuple[Shape, ...] = (
    "task_series",
    "classification_question",
    "input_first",
    "output_first",
    "answer",
    "compare",
    "reflect",
    "text",
)
LISTED_CHARACTERS = 220
DEMONSTRATION_CHARACTERS = 420
CHAT_FRACTION = 0.2  # of the few-shot shapes, asked as a chat turn: what engines without plain completion do


@dataclass(frozen=True)
class Part:
    """A piece of a document that is tokenized on its own, and how much its tokens weigh in the loss."""

    text: str
    weight: float


@dataclass(frozen=True)
class Document:
    """One training sequence.

    ``right`` is the letter, verdict or Yes/No it ends in, ``planted`` how what is judged came about (or its source),
    ``about`` the key of the item that is judged.
    """

    shape: Shape
    parts: tuple[Part, ...]
    right: str = ""
    planted: str = ""
    about: str = ""

    @property
    def prompt(self) -> str:
        """Everything before the last written part."""
        last = max(i for i, part in enumerate(self.parts) if part.weight >= 1)
        return "".join(part.text for part in self.parts[:last])

    @property
    def completion(self) -> str:
        """The last written part, with its end token."""
        return next(part.text for part in reversed(self.parts) if part.weight >= 1)


def chat_parts(turns: Sequence[str], *, read: float = 0.0, write: float = 1.0) -> tuple[Part, ...]:
    """User and assistant in turn (an even number), as the chat template writes them; only the last reply is written.

    An empty first turn leaves the user out: the reply alone, for the unconditional term of IFD.
    """
    parts: list[Part] = []
    for at, text in enumerate(turns):
        role = "assistant" if at % 2 else "user"
        is_last = at == len(turns) - 1
        if role == "user" and at == 0 and not text:
            continue
        opening = f"{START_OF_TURN}{role}\n"
        if is_last:
            parts += [Part(opening, 0.0), Part(text + END_OF_TURN, write)]
        else:
            parts += [Part(opening, 0.0), Part(text, read), Part(f"{END_OF_TURN}\n", 0.0)]
    return tuple(parts)


class Shapes:
    """Draws documents from one side of the split; ``shares`` weighs the sources of items, texts and listed tasks."""

    def __init__(
        self, corpus: Corpus, shares: dict[str, float], *, question_weight: float, judge_weight: float
    ) -> None:
        self.corpus = corpus
        self.shares = shares
        self.question_weight = question_weight
        self.judge_weight = judge_weight
        self.judged = judgeable(corpus)

    @cached_property
    def items(self) -> dict[str, list[Item]]:
        """Items by source."""
        return _by_source(self.corpus.items)

    @cached_property
    def listed(self) -> dict[str, list[Task]]:
        """Tasks short enough for a numbered list, by source."""
        return _by_source([t for t in self.corpus.tasks if len(t.instruction) <= LISTED_CHARACTERS])

    @cached_property
    def classifying(self) -> list[Task]:
        """Tasks known to classify."""
        return [t for t in self.corpus.tasks if t.is_classification and len(t.instruction) <= LISTED_CHARACTERS]

    @cached_property
    def labelled(self) -> dict[bool, list[Task]]:
        """Tasks whose kind a person wrote down (or whose outputs show it), by whether they classify."""
        known = [t for t in self.corpus.tasks if t.is_classification is not None and len(t.instruction) <= 600]
        return {yes: [t for t in known if t.is_classification is yes] for yes in (True, False)}

    @cached_property
    def with_instances(self) -> dict[str, list[Task]]:
        """Tasks that do not classify, with at least one short instance, by source."""
        return _by_source([t for t in self.corpus.tasks if not t.is_classification and _short_pairs(t)])

    @cached_property
    def with_labels(self) -> list[Task]:
        """Tasks that classify, with at least one short instance."""
        return [t for t in self.corpus.tasks if t.is_classification and _short_pairs(t)]

    @cached_property
    def _chunks(self) -> dict[str, list[tuple[str, str]]]:
        return {name: [(chunk, name) for chunk in chunks] for name, chunks in self.corpus.texts.items()}

    def draw(self, shape: Shape, rng: np.random.Generator) -> Document:
        """One document of the shape."""
        drawers: dict[str, Callable[[np.random.Generator], Document]] = {
            "task_series": self._task_series,
            "classification_question": self._classification,
            "input_first": self._input_first,
            "output_first": self._output_first,
            "answer": self._answer,
            "compare": self._compare,
            "reflect": self._reflect,
            "text": self._text,
        }
        return drawers[shape](rng)

    def _task_series(self, rng: np.random.Generator) -> Document:
        if rng.random() < 0.2 and len(self.classifying) >= 3:
            header, pool = CLASSIFICATION_TASKS_HEADER, self.classifying
            chosen = [pool[i] for i in rng.permutation(len(pool))[: int(rng.integers(3, 13))]]
        else:
            header = TASKS_HEADER
            n = int(rng.integers(3, 17))
            only = rng.random() < 0.15
            shares = {"codegen": 1.0} if only else {k: v for k, v in self.shares.items() if k != "codegen"}
            chosen = [draw_by_share(self.listed, shares if rng.random() < 0.9 else self.shares, rng) for _ in range(n)]
        lines = list(dict.fromkeys(one_line(task.instruction) for task in chosen))
        shown = int(rng.integers(1, max(2, len(lines))))
        prompt = task_series(lines[:shown], header)
        rest = [f" {line}" if k == 0 else f"{shown + 1 + k}. {line}" for k, line in enumerate(lines[shown:])]
        return self._few_shot("task_series", prompt, "\n".join(rest) if rest else f" {lines[-1]}", rng, listed=True)

    def _classification(self, rng: np.random.Generator) -> Document:
        shots = [self._labelled_task(rng) for _ in range(int(rng.integers(2, 9)))]
        target = self._labelled_task(rng)
        demonstrations = [(one_line(t.instruction), bool(t.is_classification)) for t in shots if t is not target]
        right = "Yes" if target.is_classification else "No"
        prompt = classification_question(one_line(target.instruction), demonstrations)
        document = self._few_shot("classification_question", prompt, f" {right}", rng, weight=self.judge_weight)
        return Document("classification_question", document.parts, right, target.source)

    def _labelled_task(self, rng: np.random.Generator) -> Task:
        pool = self.labelled[bool(rng.random() < 0.5)] or self.labelled[True] or self.labelled[False]
        return pool[int(rng.integers(len(pool)))]

    def _input_first(self, rng: np.random.Generator) -> Document:
        shots = [self._instances(rng) for _ in range(int(rng.integers(1, 4)))]
        task, pairs = self._instances(rng)
        return self._few_shot("input_first", input_first(task, shots), instances_text(pairs), rng)

    def _instances(self, rng: np.random.Generator) -> tuple[str, list[tuple[str, str]]]:
        task = draw_by_share(self.with_instances, self.shares, rng)
        pairs = _some_pairs(task, rng, most=4)
        without = [pair for pair in pairs if not pair[0].strip()]
        return one_line(task.instruction), without[:1] or pairs

    def _output_first(self, rng: np.random.Generator) -> Document:
        shots = [self._labels(rng) for _ in range(int(rng.integers(1, 4)))]
        task, pairs = self._labels(rng)
        return self._few_shot("output_first", output_first(task, shots), labelled_text(pairs), rng)

    def _labels(self, rng: np.random.Generator) -> tuple[str, list[tuple[str, str]]]:
        task = self.with_labels[int(rng.integers(len(self.with_labels)))]
        one_each = {output: (given, output) for given, output in _some_pairs(task, rng, most=8)}
        return one_line(task.instruction), list(one_each.values())[:4]

    def _answer(self, rng: np.random.Generator) -> Document:
        item = draw_by_share(self.items, self.shares, rng)
        asked = asked_text(item, rng) if rng.random() < 0.92 else ""
        return Document("answer", chat_parts((asked, item.output), read=self.question_weight), planted=item.source)

    def _compare(self, rng: np.random.Generator) -> Document:
        return self._judged("compare", draw_comparison(self.corpus.preferences, self.judged, self.shares, rng))

    def _reflect(self, rng: np.random.Generator) -> Document:
        return self._judged("reflect", draw_reflection(self.judged, self.shares, rng))

    def _judged(self, shape: Shape, judged: Judged) -> Document:
        parts = chat_parts((*judged.asked, judged.reply), write=self.judge_weight)
        return Document(shape, parts, judged.right, judged.planted, judged.about)

    def _text(self, rng: np.random.Generator) -> Document:
        chunk, name = draw_by_share(self._chunks, self.shares, rng)
        return Document("text", (Part(END_OF_TEXT, 0.0), Part(chunk + END_OF_TEXT, 1.0)), planted=name)

    def _few_shot(
        self,
        shape: Shape,
        prompt: str,
        completion: str,
        rng: np.random.Generator,
        *,
        weight: float = 1.0,
        listed: bool = False,
    ) -> Document:
        """A plain continuation, or a chat turn now and then; half of the plain ones begin with end-of-text."""
        if rng.random() < CHAT_FRACTION:
            parts = chat_parts((prompt, completion.strip()), write=weight)
            return Document(shape, parts)
        read = self.question_weight if listed else 0.0
        opening = (Part(END_OF_TEXT, 0.0),) if rng.random() < 0.5 else ()
        return Document(shape, (*opening, Part(prompt, read), Part(completion + END_OF_TEXT, weight)))


def encode(
    tokenizer: Any, documents: Sequence[Document], *, context_tokens: int
) -> list[tuple[list[int], list[float]]]:
    """Token ids and loss weights of each document that fits the context.

    Answers and running text are cut at the context; of the others, where the end is the point, the too long are left
    out. Parts are tokenized apart, as an engine does that continues a prompt.
    """
    pieces = tokenizer.encode_batch(
        [part.text for document in documents for part in document.parts], add_special_tokens=False
    )
    encoded: list[tuple[list[int], list[float]]] = []
    at = 0
    for document in documents:
        ids: list[int] = []
        weights: list[float] = []
        for part in document.parts:
            ids += pieces[at].ids
            weights += [part.weight] * len(pieces[at].ids)
            at += 1
        if len(ids) > context_tokens and document.shape not in ("answer", "text"):
            continue
        weights[0] = 0.0
        if any(weights[:context_tokens]):
            encoded.append((ids[:context_tokens], weights[:context_tokens]))
    return encoded


def _by_source(things: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for thing in things:
        found.setdefault(thing.source, []).append(thing)
    return found


def _short_pairs(task: Task) -> list[tuple[str, str]]:
    return [p for p in task.pairs if len(p[0]) + len(p[1]) <= DEMONSTRATION_CHARACTERS]


def _some_pairs(task: Task, rng: np.random.Generator, *, most: int) -> list[tuple[str, str]]:
    pairs = _short_pairs(task)
    return [pairs[i] for i in rng.permutation(len(pairs))[: int(rng.integers(1, most + 1))]]
