"""Self-Instruct: new tasks from seed tasks, with their inputs and outputs, all written by one model."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Request
from methods.asking import prompts
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, sample
from methods.generate._bootstrap import Shown, Task, bootstrap
from methods.generate._demonstrations import NO_DEMONSTRATIONS, Demonstrations, Shots, draw_demonstrations
from methods.generate._instances import classification_verdicts, instances_in, rows_of
from methods.generate._ledger import Ledger
from methods.generate._parse import BLOCKLIST, Bounds, Compat
from methods.generate._seeds import Seed, seeds_of
from schemas.errors import EmptyStage
from schemas.method import TOKENS_PER_WORD, Expected, Generated, GenerateMethod, Using


class SelfInstruct(Prompted, GenerateMethod):
    """Grows a pool of tasks from seed examples: instruction bootstrap, classification question, instances, filters.

    Runs in rounds until exactly ``examples`` rows are accepted or ``max_candidates`` candidates were looked at. A
    candidate is one instruction of a task series, or a series that could not be used at all. The parents of an example
    are the seed examples shown in its task series; the fixed demonstrations of the run are named in the notes.

    Departs from the published code unless ``compat: official`` (see also the docstrings in ``_parse``): drops at a
    similarity of exactly ``similarity_limit`` too, as the paper says; compares words of any script; keeps the case of
    the text; refuses an unreadable classification answer instead of taking it for "no"; stops a series only at a number
    that begins a line. In both, demonstrations are drawn from the seeds, not from a fixed prompt file, and tasks longer
    than ``shown_words`` are not shown (they still count for novelty).

    Paper: Wang et al. 2023, https://arxiv.org/abs/2212.10560, section 3.
    """

    method: Literal["self-instruct"] = "self-instruct"
    needs: ClassVar[frozenset[str]] = frozenset({"llm"})
    speaks: ClassVar[tuple[str, ...]] = ("task-series", "classification-question", "input-first", "output-first")

    examples: int = Field(100, ge=1, description="accepted examples wanted, exactly")
    max_candidates: int | None = Field(None, ge=1, description="candidates looked at, at most; default 20 per example")

    human_shown: int = Field(6, ge=1, le=32, description="seed tasks in a prompt (more while machine tasks are few)")
    machine_shown: int = Field(2, ge=0, le=32, description="accepted machine-made tasks in a prompt")
    shown_words: int = Field(150, ge=1, description="longest task that is shown, in words")
    classification_only: bool = Field(False, description="show classification seeds only, and ask for such tasks")
    prompts_per_round: int = Field(5, ge=1, description="task series asked for before the pool of shown tasks grows")
    new_per_prompt: int = Field(7, ge=1, le=50, description="new tasks wanted of one series")
    cut_off: Literal["discard", "drop-last"] = Field(
        "discard", description="a series cut by the token limit: none of it is used, or all but its last task"
    )

    similarity_limit: float = Field(
        0.7, gt=0, le=1, description="ROUGE-L F1 to an earlier task at which one is dropped"
    )
    neighbors: int = Field(3, ge=0, le=100, description="nearest earlier tasks recorded with each accepted one")
    mean_similarity: bool = Field(
        False, description="record the mean similarity to all earlier tasks too, as published (slower)"
    )
    above_words: int = Field(3, ge=0, description="tasks of this many words or fewer are dropped")
    at_most_words: int = Field(150, ge=1, description="tasks of more words are dropped")
    blocklist: tuple[str, ...] = Field(BLOCKLIST, description="whole words that drop a task, any case")

    instances: Literal["official", "answer"] = Field(
        "official", description="input and output by few-shot prompt, or the task asked directly as a chat"
    )
    max_instances: int = Field(5, ge=1, description="examples taken of one task")
    question_shots: int = Field(31, ge=1, description="demonstrations of the classification question")
    task_shots: int = Field(11, ge=1, description="demonstrations of writing the input first")
    labelled_shots: int = Field(16, ge=1, description="demonstrations of writing the label first")
    shot_words: int = Field(150, ge=1, description="longest demonstration, in words of task and instances")
    surface: Literal["plain", "varied"] = Field("plain", description="one form of user turn, or the paper's variants")

    ask_as: Literal["continuation", "chat"] = Field(
        "continuation", description="few-shot prompts as text to go on from, or as the user turn of a chat"
    )
    tasks_header: str | None = Field(None, description="first line of a task series, if not as in the prompt file")
    classification_tasks_header: str | None = Field(None, description="the same with classification_only")
    classification_header: str | None = Field(
        None, description="the classification question, if not as in the prompt file"
    )
    input_first_header: str | None = Field(
        None, description="how instances are asked for, if not as in the prompt file"
    )
    output_first_header: str | None = Field(
        None, description="the same for classification tasks, if not as in the prompt file"
    )
    series: Draw = Field(
        Draw(max_tokens=1024, temperature=0.7, top_p=0.5, presence_penalty=2.0, stop=("\n\n",)),
        description="how a task series is drawn; the number after its last new task is a stop too",
    )
    classify: Draw = Field(
        Draw(max_tokens=3, stop=("\n", "Task")), description="how the classification answer is drawn"
    )
    instantiate: Draw = Field(
        Draw(max_tokens=350, presence_penalty=1.5, stop=("Example 6", "Task:")), description="how instances are drawn"
    )
    label: Draw = Field(
        Draw(max_tokens=300, presence_penalty=1.5, stop=("Example 6", "Task:")),
        description="how instances of a classification task are drawn",
    )
    answer: Draw = Field(Draw(max_tokens=350), description="with instances: answer, how the answer is drawn")
    compat: Compat = Field("fixed", description="official: reproduce the published code's slips")

    def expected_calls(self, rows: int, words: float) -> Expected:
        """At most: every candidate costs its share of a task series, a classification question and its instances."""
        candidates = self.max_candidates or 20 * self.examples
        series = -(-candidates // self.new_per_prompt)
        written = self.answer if self.instances == "answer" else self.instantiate
        shown = (self.human_shown + self.machine_shown) * words * TOKENS_PER_WORD
        each = self.classify.max_tokens + written.max_tokens + 3 * words * TOKENS_PER_WORD
        calls = series + candidates * (1 if self.instances == "answer" else 2)
        return Expected(calls, round(series * (shown + self.series.max_tokens) + candidates * each))

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """Exactly ``examples`` rows, fewer only when the candidates ran out (notes: ``stopped``).

        Raises ``EmptyStage`` when there is no seed task to show.
        """
        known = seeds_of(seeds)
        showable = [seed for seed in known if self._can_show(seed)]
        if not showable:
            wanted = "classification " if self.classification_only else ""
            raise EmptyStage(
                f"self-instruct has no {wanted}seed task of at most {self.shown_words} words among {seeds.height} seed "
                "examples; give it a pool whose examples have a short first user turn, or raise shown_words"
            )
        few_shot = self.instances == "official"
        demonstrations = draw_demonstrations(known, self._shots(), rng) if few_shot else NO_DEMONSTRATIONS
        ledger = Ledger()
        counts = {"rounds": 0, "candidates": 0, "tasks_accepted": 0, "tasks_not_pursued": 0}
        for batch in bootstrap(self, known, showable, ledger, counts, using=using, rng=rng):
            left = list(batch)
            while left and len(ledger.created) < self.examples:  # no more calls than rows are wanted
                now, left = left[: self.examples - len(ledger.created)], left[self.examples - len(ledger.created) :]
                self._instantiate(now, demonstrations, ledger, using=using, rng=rng)
            for task in left:
                ledger.refuse(task.text, "surplus", task.pedigree)
            counts["tasks_not_pursued"] += len(left)
            note = f"round {counts['rounds']}, {len(ledger.refused)} refused"
            using.progress(len(ledger.created), self.examples, note)
            if len(ledger.created) >= self.examples:
                break
        created, refused = ledger.frames()
        notes = {
            **counts,
            "accepted": created.height,
            "stopped": "target" if created.height >= self.examples else "candidate-budget",
            "refused": ledger.reasons(),
            "seeds_usable": len(known),
            "seeds_shown": len(showable),
            "demonstrations": [seed.hex() for seed in demonstrations.seeds],
        }
        return Generated(created, refused, notes)

    @property
    def candidate_budget(self) -> int:
        """Candidates looked at, at most."""
        return self.max_candidates or 20 * self.examples

    @property
    def bounds(self) -> Bounds:
        """Which instructions are taken."""
        return Bounds(self.above_words, self.at_most_words, self.blocklist)

    def series_request(self, shown: Shown, seed: int) -> Request:
        """The task series that shows these tasks and ends at the number of the next.

        The reply ends before the number after the last new task that is wanted. The published code also stops at that
        number inside a line ("in 1916."), which ``fixed`` leaves out.
        """
        prompt = self.prompt("task-series")
        header = self.tasks_header
        if self.classification_only:
            header = self.classification_tasks_header or prompt.wording.get("classification_header")
        last = len(shown.tasks) + self.new_per_prompt + 1
        stops = [*self.series.stop, f"\n{last}"]
        if self.compat == "official":
            stops += [f"{last}.", f"{last} ."]
        draw = self.series.model_copy(update={"stop": tuple(dict.fromkeys(stops))})
        return self._request(prompt.render(instructions=shown.tasks, header=header), draw, seed)

    def _instantiate(
        self, tasks: Sequence[Task], shots: Demonstrations, ledger: Ledger, *, using: Using, rng: np.random.Generator
    ) -> None:
        """Steps 2 to 4 for accepted tasks: their examples go into the ledger, at most ``self.examples`` in all."""
        if self.instances == "answer":
            asked = [Request.ask(task.text, self.answer.sampling(int(rng.integers(2**31)))) for task in tasks]
            replies = sample(using.llm, asked)
            pairs = zip(tasks, replies, strict=True)
            found = [instances_in(task, reply, "answer", self.compat) for task, reply in pairs]
        else:
            asked = [self._classification_request(task, shots) for task in tasks]
            routed = classification_verdicts(tasks, sample(using.llm, asked), ledger, self.compat)
            asked = [self._instance_request(task, labelled, shots) for task, labelled in routed]
            replies = sample(using.llm, asked)
            found = [
                instances_in(task, reply, "classification" if labelled else "generation", self.compat)
                for (task, labelled), reply in zip(routed, replies, strict=True)
            ]
        for one in found:
            rows_of(
                one,
                ledger,
                wanted=self.examples,
                at_most=self.max_instances,
                surface=self.surface,
                compat=self.compat,
                rng=rng,
            )

    def _classification_request(self, task: Task, shots: Demonstrations) -> Request:
        text = self.prompt("classification-question").render(
            instruction=task.text, demonstrations=shots.questions, header=self.classification_header
        )
        return self._request(text, self.classify)

    def _instance_request(self, task: Task, labelled: bool, shots: Demonstrations) -> Request:
        name, header, shown = "input-first", self.input_first_header, shots.tasks
        if labelled:
            name, header, shown = "output-first", self.output_first_header, shots.labelled
        text = self.prompt(name).render(instruction=task.text, demonstrations=shown, header=header)
        return self._request(text, self.label if labelled else self.instantiate)

    def _request(self, text: str, draw: Draw, seed: int = 0) -> Request:
        if self.ask_as == "chat":
            return Request.ask(text, draw.sampling(seed))
        return Request(prompt=text, sampling=draw.sampling(seed))

    def _can_show(self, seed: Seed) -> bool:
        if self.classification_only and seed.is_classification is not True:
            return False
        return 0 < len(prompts.one_line(seed.instruction).split()) <= self.shown_words

    def _shots(self) -> Shots:
        return Shots(self.question_shots, self.task_shots, self.labelled_shots, self.shot_words)
