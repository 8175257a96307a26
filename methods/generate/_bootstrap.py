"""Self-Instruct step 1 in rounds: show tasks, ask for more, take the new ones; accepted tasks are shown later on."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from backends.protocols import Reply, Request
from methods.asking.sampling import calls_of, failure_of, is_cut_off, sample
from methods.generate._ledger import Ledger, Pedigree
from methods.generate._parse import Bounds, Compat, judged, series_items
from methods.generate._seeds import Seed
from methods.texts.acceptance import Decision, RougeStanding, accept_greedily
from methods.texts.metrics import Neighbor, rouge_tokens
from methods.texts.words import similarity_tokens
from schemas.method import Using


@dataclass(frozen=True)
class Shown:
    """The in-context tasks of one prompt, in order, and which of them are seeds (ids) and machine-made (indices)."""

    tasks: tuple[str, ...]
    seeds: tuple[bytes, ...]
    made: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """An accepted machine-made instruction and where it came from."""

    text: str
    pedigree: Pedigree


class Settings(Protocol):
    """What the bootstrap wants to know of its method."""

    @property
    def human_shown(self) -> int: ...
    @property
    def machine_shown(self) -> int: ...
    @property
    def prompts_per_round(self) -> int: ...
    @property
    def cut_off(self) -> Literal["discard", "drop-last"]: ...
    @property
    def similarity_limit(self) -> float: ...
    @property
    def neighbors(self) -> int: ...
    @property
    def mean_similarity(self) -> bool: ...
    @property
    def compat(self) -> Compat: ...
    @property
    def candidate_budget(self) -> int: ...
    @property
    def bounds(self) -> Bounds: ...
    def series_request(self, shown: Shown, seed: int) -> Request: ...


def bootstrap(
    settings: Settings,
    known: Sequence[Seed],
    showable: Sequence[Seed],
    ledger: Ledger,
    counts: MutableMapping[str, int],
    *,
    using: Using,
    rng: np.random.Generator,
) -> Iterator[list[Task]]:
    """The tasks accepted in each round, until the candidate budget is used up; refusals go into ``ledger``.

    Given equal replies and an equal rng it yields equal tasks. ``counts`` (rounds, candidates, tasks_accepted) is kept
    up to date.
    """
    standing = RougeStanding(
        novelty_tokens(settings.compat),
        settings.similarity_limit,
        at_limit_kept=settings.compat == "official",
        texts=[seed.instruction for seed in known],
    )
    made: list[str] = []
    while counts["candidates"] < settings.candidate_budget:
        counts["rounds"] += 1
        asked = min(settings.prompts_per_round, settings.candidate_budget - counts["candidates"])
        shown = [draw_shown(showable, made, settings.human_shown, settings.machine_shown, rng) for _ in range(asked)]
        replies = sample(using.llm, [settings.series_request(tasks, int(rng.integers(2**31))) for tasks in shown])
        accepted: list[Task] = []
        for number, (tasks, reply) in enumerate(zip(shown, replies, strict=True)):
            origin = Pedigree(
                tasks.seeds,
                tuple(calls_of([reply])),
                {"round": counts["rounds"], "prompt": number, "shown_made": list(tasks.made)},
            )
            allowed = settings.candidate_budget - counts["candidates"]
            items = _survivors(reply, origin, settings, ledger, allowed, counts)
            texts = [text for text, _ in items]
            decisions = accept_greedily(texts, standing, neighbors=settings.neighbors, means=settings.mean_similarity)
            for decision, (_, pedigree) in zip(decisions, items, strict=True):
                pedigree = pedigree.and_then(**nearness(decision, known))
                if decision.position is None:
                    ledger.refuse(decision.candidate, "not-novel", pedigree)
                else:
                    pedigree = pedigree.and_then(made=len(made) + len(accepted))
                    accepted.append(Task(decision.candidate, pedigree))
        made += [task.text for task in accepted]
        counts["tasks_accepted"] += len(accepted)
        yield accepted


def draw_shown(seeds: Sequence[Seed], made: Sequence[str], human: int, machine: int, rng: np.random.Generator) -> Shown:
    """``machine`` machine-made tasks (as many as there are) and seeds up to ``human + machine`` in all, shuffled."""
    picked = [int(i) for i in rng.choice(len(made), size=min(machine, len(made)), replace=False)] if made else []
    places = rng.choice(len(seeds), size=min(human + machine - len(picked), len(seeds)), replace=False)
    chosen = [seeds[int(i)] for i in places]
    tasks = [*(made[i] for i in picked), *(seed.instruction for seed in chosen)]
    return Shown(
        tasks=tuple(tasks[int(i)] for i in rng.permutation(len(tasks))),
        seeds=tuple(seed.id for seed in chosen),
        made=tuple(picked),
    )


def _survivors(
    reply: Reply,
    origin: Pedigree,
    settings: Settings,
    ledger: Ledger,
    allowed: int,
    counts: MutableMapping[str, int],
) -> list[tuple[str, Pedigree]]:
    """Instructions of one series that pass the checks on their own text; every other one is refused with its reason."""
    failure = failure_of(reply, complete=settings.cut_off == "discard")
    items = [] if failure else series_items(reply.text, settings.compat)
    if not items:
        counts["candidates"] += 1
        ledger.refuse(reply.text, refusal_name(failure or "empty"), origin.and_then(message=reply.message))
        return []
    passed: list[tuple[str, Pedigree]] = []
    for number, item in enumerate(items):
        pedigree = origin.and_then(item=number)
        if number >= allowed:
            ledger.refuse(item, "over-candidate-budget", pedigree)
            continue
        counts["candidates"] += 1
        candidate = judged(item, settings.bounds, settings.compat)
        reason = candidate.reason
        if is_cut_off(reply) and number == len(items) - 1:
            reason = "cut-off"
        if reason:
            ledger.refuse(candidate.text, reason, pedigree)
        else:
            passed.append((candidate.text, pedigree))
    return passed


def refusal_name(failure: str) -> str:
    """A failed call's class as a reason: ``call-timeout``; what the model itself did stays ``empty`` or ``cut-off``."""
    return failure if failure in ("empty", "cut-off") else f"call-{failure}"


def novelty_tokens(compat: Compat) -> Callable[[str], Sequence[str]]:
    """What novelty compares: words of any script; as published, Latin letters and digits only."""
    return rouge_tokens if compat == "official" else similarity_tokens


def nearness(decision: Decision[str], known: Sequence[Seed]) -> dict[str, Any]:
    """What is stored of a decision: the nearest earlier tasks, and the mean similarity to all where it was asked for."""
    mean = {} if decision.mean is None else {"mean_similarity": round(decision.mean, 4)}
    return {"neighbors": named_neighbors(decision.neighbors, known), **mean}


def named_neighbors(neighbors: Sequence[Neighbor], known: Sequence[Seed]) -> list[Mapping[str, Any]]:
    """Neighbours as a person can follow them: a seed by its id, a machine-made task by its index."""
    return [
        {
            **({"seed": known[n.position].id.hex()} if n.position < len(known) else {"made": n.position - len(known)}),
            "similarity": round(n.score, 4),
        }
        for n in neighbors
    ]
