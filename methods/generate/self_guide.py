"""SELF-GUIDE: a model writes new inputs and outputs for one task from a few examples, to be fine-tuned on them itself."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BeforeValidator, Field

from backends.protocols import Request
from methods.asking.prompted import Prompted
from methods.asking.prompts import question
from methods.asking.sampling import Draw, calls_of, failure_of, sample, sample_each
from methods.generate._bootstrap import refusal_name
from methods.generate._guide_filters import (
    OPENERS,
    TELLTALES,
    LengthBounds,
    balanced,
    flat_quotas,
    length_bounds,
    noise_in,
    phrases_for,
)  # fmt: skip
from methods.generate._guide_output import Annotation, Votes, by_likelihood, by_vote
from methods.generate._guide_tasks import (
    Asking,
    GuideTask,
    Kind,
    input_ask,
    output_request,
    shot_turns,
    tasks_of,
    without_long,
)
from methods.generate._ledger import Ledger, Pedigree
from methods.generate._parse import Compat
from methods.generate._seeds import seeds_of
from methods.keyed import drawn_seed
from schemas.errors import EmptyStage
from schemas.identity import digest16
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


def _switch(value: Any) -> Any:
    """YAML reads on and off as true and false."""
    return ("on" if value else "off") if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]


class SelfGuide(Prompted, GenerateMethod):
    """For each task among the seeds: new inputs, an output for each by a vote of samples, noise and lengths filtered.

    A task is the seeds that share an instruction; each gets exactly ``examples`` rows (fewer only where its
    ``max_candidates`` inputs were used up). A candidate is one reply to the request for an input. Classification tasks
    ask for an input of a label drawn at random, which steers and decides nothing: the label comes from the annotation.
    Their rows are balanced over the labels.

    Departs from the published code unless ``compat: official``: candidates are compared with the earlier ones without
    outer whitespace; phrases that the task's own examples contain are no noise, and the list of phrases never grows;
    labels are read as whole words, the longest first, before the vote; a winner needs ``min_votes`` votes; a spread of
    zero sets no length bound; an output cut by the token limit is not counted. In both, inputs are written until there
    are enough rows, not for a fixed number of epochs.

    Paper: Zhao et al. 2024, https://arxiv.org/abs/2407.12874, section 3.
    """

    method: Literal["self-guide"] = "self-guide"
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})
    speaks: ClassVar[tuple[str, ...]] = ("guide-input", "guide-input-series", "guide-output", "guide-output-series")

    examples: int = Field(100, ge=1, description="accepted examples wanted of each task, exactly")
    max_candidates: int | None = Field(
        None, ge=1, description="inputs asked for per task, at most; default 10 per example"
    )
    kind: Kind = Field("auto", description="auto: a classification task where the seeds say so or name labels")
    labels: tuple[str, ...] = Field((), description="labels of the classification task, if the seeds do not name them")

    prompts_per_round: int = Field(10, ge=1, description="inputs asked for before the pool of shown inputs grows")
    generated_shown: int = Field(10, ge=0, description="earlier inputs that a prompt shows, at most")
    prompt_words: int = Field(2000, ge=20, description="longest prompt; fewer inputs and examples are shown beyond it")
    temperature: float | None = Field(
        None, gt=0, description="of new inputs; 0.7 for a classification task and 0.9 for another one, if not given"
    )
    write: Draw = Field(Draw(max_tokens=500, top_k=40), description="how inputs are drawn, at the temperature above")
    annotate: Draw = Field(
        Draw(max_tokens=500, temperature=0.2, top_k=10), description="how the samples of an output are drawn"
    )
    samples: int = Field(10, ge=1, description="samples of each output that vote")
    min_frequency: float = Field(0.3, ge=0, le=1, description="share of the valid samples that the winner needs")
    min_votes: int = Field(2, ge=1, description="votes that the winner needs; official asks for one")
    labels_by: Literal["vote", "likelihood"] = Field(
        "vote", description="how a label is found: samples that vote, or the likeliest of the labels"
    )
    calibrated: bool = Field(True, description="with likelihood: correct for how much the model likes each label")
    min_margin: float = Field(0.0, ge=0, le=1, description="with likelihood: least distance of the two best labels")

    input_lengths: Switch = Field("auto", description="drop inputs of unusual length; auto: of classification tasks")
    output_lengths: Switch = Field("auto", description="drop outputs of unusual length; auto: of other tasks")
    openers: tuple[str, ...] = Field(OPENERS, description="texts that show talk about the task instead of an input")
    noise: tuple[str, ...] = Field(TELLTALES, description="texts that show more than the part that was asked for")
    balance: bool = Field(True, description="as many rows of each label")
    shots: int = Field(0, ge=0, description="the task's examples that stand as turns before each row, at most")
    ask_as: Literal["chat", "continuation"] = Field("chat", description="prompts for a chat model or a base model")
    compat: Compat = Field("fixed", description="official: reproduce the published code's slips")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most: every candidate of every task is written and annotated; each seed example counts as a task."""
        calls = rows * self.candidate_budget * (1 + self.samples)
        shown = (4 + self.generated_shown) * words * TOKENS_PER_WORD
        written = self.write.max_tokens + self.samples * self.annotate.max_tokens
        return Expected(calls, round(calls * shown + rows * self.candidate_budget * written))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """Exactly ``examples`` rows of each task, fewer where its candidates ran out (notes: ``tasks``).

        An example too long for a prompt is refused, and so is a task that has no other. Raises ``EmptyStage`` when no
        seed has an example, or no task one that can be shown.
        """
        tasks = tasks_of(seeds_of(seeds), self.kind, self.labels)
        if not tasks:
            raise EmptyStage(
                f"self-guide has no task among {seeds.height} seed examples; give it a few examples with an instruction, "
                "an input and an output each"
            )
        ledger, key = Ledger(), drawn_seed(rng)
        notes: dict[str, Any] = {}
        tasks = [self._shown(task, ledger) for task in tasks]
        if not any(task.gold for task in tasks):
            raise EmptyStage(
                f"self-guide: no example of {', '.join(repr(task.name) for task in tasks[:5])} makes a prompt of "
                f"{self.prompt_words} words or fewer; raise prompt_words or give shorter examples"
            )
        for number, task in enumerate(tasks):
            words = np.frombuffer(digest16(task.instruction.encode()), dtype=np.uint32)
            run = _Run(self, task, ledger, using, np.random.default_rng([key, *words.tolist()]))
            run.progress = (number * self.examples, len(tasks) * self.examples)
            run.all_rounds()
            name = task.name if task.name not in notes else f"{task.name} ({number})"
            notes[name] = run.notes()
        created, refused = ledger.frames()
        return Generated(created, refused, {"accepted": created.height, "refused": ledger.reasons(), "tasks": notes})

    @property
    def candidate_budget(self) -> int:
        """Inputs asked for per task, at most."""
        return self.max_candidates or 10 * self.examples

    def _shown(self, task: GuideTask, ledger: Ledger) -> GuideTask:
        """The task with the examples that a prompt can show; the others are refused."""
        task, long = without_long(task, self.asking())
        for one in long:
            evidence = {"task": task.name, "at_most_words": self.prompt_words}
            ledger.refuse(f"{one.given}\n\n{one.output}", "seed-example-too-long", Pedigree(task.parents, (), evidence))
        return task

    def asking(self) -> Asking:
        """How prompts are put."""
        return Asking(self.ask_as, self.prompt, self.prompt_words)

    def filters(self, setting: str, on_by_default: bool) -> bool:
        """Whether a length filter is on."""
        return on_by_default if setting == "auto" else setting == "on"


@dataclass(frozen=True)
class _Row:
    """An input with its output, not yet chosen for the set."""

    given: str
    output: str
    pedigree: Pedigree


@dataclass
class _Run:
    """One task on its way: rounds of inputs, their outputs, and the final choice. Everything it drops has a reason."""

    how: SelfGuide
    task: GuideTask
    ledger: Ledger
    using: Using
    rng: np.random.Generator
    made: list[str] = field(default_factory=list)  # inputs that passed the filters, shown later on
    rows: list[_Row] = field(default_factory=list)
    candidates: int = 0
    rounds: int = 0
    progress: tuple[int, int] = (0, 0)

    def all_rounds(self) -> None:
        """Rounds until there are enough rows or no candidate is left; then the rows go into the ledger."""
        before, refused = len(self.ledger.created), len(self.ledger.refused)
        while self.task.gold and self.candidates < self.how.candidate_budget and not self._enough():
            self._round()
            done = self.progress[0] + min(len(self.rows), self.how.examples)
            dropped = len(self.ledger.refused) - refused
            self.using.progress(done, self.progress[1], f"{self.task.name}: round {self.rounds}, {dropped} refused")
        self._choose()
        self._accepted = len(self.ledger.created) - before
        self._reasons = dict(Counter(row["reason"] for row in self.ledger.refused[refused:]).most_common())

    def notes(self) -> dict[str, Any]:
        """Figures of the task for the manifest."""
        stopped = "target" if self._accepted >= self.how.examples else "candidate-budget"
        return {
            "rounds": self.rounds,
            "candidates": self.candidates,
            "accepted": self._accepted,
            "stopped": stopped if self.task.gold else "seed-examples-too-long",
            "refused": self._reasons,
            **({"labels": dict(Counter(row.output for row in self.rows))} if self.task.labels else {}),
        }

    def _round(self) -> None:
        self.rounds += 1
        how, asking = self.how, self.how.asking()
        wanted = min(how.prompts_per_round, how.candidate_budget - self.candidates)
        asks = [input_ask(self.task, self.made, how.generated_shown, asking, self.rng) for _ in range(wanted)]
        draw = how.write.model_copy(update={"temperature": how.temperature or (0.7 if self.task.labels else 0.9)})
        requests: list[Request] = []
        for ask in asks:
            sampling = draw.sampling(int(self.rng.integers(2**31)))
            requests.append(
                Request.ask(ask.text, sampling) if how.ask_as == "chat" else Request(prompt=ask.text, sampling=sampling)
            )
        passed: list[tuple[str, Pedigree]] = []
        for number, (ask, reply) in enumerate(zip(asks, sample(self.using.llm, requests), strict=True)):
            self.candidates += 1
            evidence = {"task": self.task.name, "round": self.rounds, "prompt": number, "shown_made": list(ask.shown)}
            if ask.label is not None:
                evidence["asked_label"] = ask.label
            origin = Pedigree(self.task.parents, tuple(calls_of([reply])), evidence)
            failure = failure_of(reply, complete=how.compat == "fixed")
            if failure:
                self.ledger.refuse(reply.text, refusal_name(failure), origin.and_then(message=reply.message))
                continue
            text = reply.text if how.compat == "official" else bare(reply.text)
            reason, details = self._refusal(text)
            if reason:
                self.ledger.refuse(text, reason, origin.and_then(**details))
            else:
                self.made.append(text.strip())
                passed.append((text.strip(), origin))
        for (given, origin), found in zip(passed, self._annotated([given for given, _ in passed]), strict=True):
            pedigree = origin.and_then(found.calls, **found.evidence)
            if found.output is None:
                self.ledger.refuse(given, str(found.reason), pedigree)
            else:
                self.rows.append(_Row(given, found.output, pedigree))

    def _refusal(self, text: str) -> tuple[str | None, dict[str, Any]]:
        """Why an input is dropped, if it is, and what a person may want to know about it."""
        given = [i.given for i in self.task.gold]
        if not text.strip():
            return "empty", {}
        bounds = self._bounds(given, self.how.input_lengths, self.task.is_classification)
        if bounds and not bounds.holds(text):
            return "input-length", {"length": len(text), "at_least": bounds.low, "below": bounds.high}
        phrase = noise_in(text, self._phrases(given, self.how.openers + self.how.noise))
        if phrase is not None:
            return "input-noise", {"phrase": phrase}
        if text in self.made or (self.how.compat == "fixed" and text in given):
            return "repeated-input", {}
        return None, {}

    def _annotated(self, inputs: Sequence[str]) -> list[Annotation]:
        how, asking = self.how, self.how.asking()
        if not inputs:
            return []
        if self.task.labels and how.labels_by == "likelihood":
            return by_likelihood(
                self.task, inputs, self.using.llm, asking, calibrated=how.calibrated, min_margin=how.min_margin
            )
        seeds = [int(self.rng.integers(2**31)) for _ in inputs]
        requests = [
            output_request(self.task, given, how.annotate, seed, asking)
            for given, seed in zip(inputs, seeds, strict=True)
        ]
        official = how.compat == "official"
        outputs = [i.output for i in self.task.gold]
        votes = Votes(
            min_frequency=how.min_frequency,
            min_votes=1 if official else how.min_votes,
            bounds=self._bounds(outputs, how.output_lengths, not self.task.is_classification),
            noise=self._phrases(outputs, how.openers + how.noise),
            official=official,
        )
        return [by_vote(self.task, replies, votes) for replies in sample_each(self.using.llm, requests, how.samples)]

    def _bounds(self, gold: Sequence[str], setting: str, on_by_default: bool) -> LengthBounds | None:
        on = self.how.filters(setting, on_by_default)
        return length_bounds(gold, official=self.how.compat == "official") if on else None

    def _phrases(self, gold: Sequence[str], phrases: Sequence[str]) -> tuple[str, ...]:
        return tuple(phrases) if self.how.compat == "official" else phrases_for(gold, phrases)

    def _enough(self) -> bool:
        if not (self.task.labels and self.how.balance):
            return len(self.rows) >= self.how.examples
        found = Counter(row.output for row in self.rows)
        return sum(flat_quotas(found, self.task.labels, self.how.examples).values()) >= self.how.examples

    def _choose(self) -> None:
        """The rows of the set: the first ones, or a draw of as many of each label."""
        kept = set(range(min(len(self.rows), self.how.examples)))
        reason = "surplus"
        if self.task.labels and self.how.balance:
            found = Counter(row.output for row in self.rows)
            quotas = flat_quotas(found, self.task.labels, self.how.examples)
            kept, reason = balanced([row.output for row in self.rows], quotas, self.rng), "beyond-label-balance"
        for place, row in enumerate(self.rows):
            if place not in kept:
                self.ledger.refuse(f"{row.given}\n\n{row.output}", reason, row.pedigree)
                continue
            before = [(turn.role, turn.content) for turn in shot_turns(self.task.gold[: self.how.shots])]
            if before:
                before = [("system", self.task.instruction), *before]
            asked = row.given if before else question(self.task.instruction, row.given)
            self.ledger.accept(asked, row.output, row.pedigree, before)


def bare(reply: str) -> str:
    r"""The input that a chat model wrote, without the tags in which the prompt shows others.

    >>> bare(" <input>\nTwo sentences.\n</input>")
    'Two sentences.'
    """
    text = reply.strip()
    if text[:7].lower() != "<input>":
        return text
    text = text[7:]
    return (text[:-8] if text[-8:].lower() == "</input>" else text).strip()
