"""Self-Instruct steps 2 to 4: which form a task's instances take, reading them, and turning them into examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from backends.protocols import Reply
from methods.asking.parsing import Unparsed, yes_or_no
from methods.asking.sampling import calls_of, failure_of, is_cut_off
from methods.generate._bootstrap import Task, refusal_name
from methods.generate._ledger import Ledger, Pedigree
from methods.generate._parse import Compat, Instance, labelled_instances, sifted, task_instances
from methods.generate._surface import plain, varied

Kind = Literal["generation", "classification", "answer"]


@dataclass(frozen=True)
class Found:
    """What the model wrote for one task: instances, or the reason why there are none."""

    task: Task
    instances: tuple[Instance, ...]
    pedigree: Pedigree
    reason: str | None = None


def classification_verdicts(
    tasks: Sequence[Task], replies: Sequence[Reply], ledger: Ledger, compat: Compat
) -> list[tuple[Task, bool]]:
    """Tasks with whether they are classification tasks; one whose answer cannot be read is refused.

    ``official`` takes everything but Yes, yes and YES for no, failed calls included.
    """
    routed: list[tuple[Task, bool]] = []
    for task, reply in zip(tasks, replies, strict=True):
        pedigree = task.pedigree.and_then(calls_of([reply]), classification_reply=reply.text[:40])
        failure = failure_of(reply, complete=False)
        if compat == "official":
            verdict: bool | Unparsed = not failure and reply.text.strip() in ("Yes", "yes", "YES")
        elif failure:
            ledger.refuse(task.text, refusal_name(failure), pedigree)
            continue
        else:
            verdict = yes_or_no(reply.text)
        if isinstance(verdict, Unparsed):
            ledger.refuse(task.text, "classification-unparsed", pedigree)
        else:
            routed.append((Task(task.text, pedigree), verdict))
    return routed


def instances_in(task: Task, reply: Reply, kind: Kind, compat: Compat) -> Found:
    """The instances of one reply. Cut by the token limit, a list loses its last instance and an answer is refused."""
    pedigree = task.pedigree.and_then(calls_of([reply]), kind=kind)
    failure = failure_of(reply, complete=kind == "answer")
    if failure:
        return Found(task, (), pedigree.and_then(message=reply.message), refusal_name(failure))
    cut_off = is_cut_off(reply)
    if kind == "answer":
        found = [Instance("", reply.text.strip())]
    elif kind == "classification":
        found = labelled_instances(reply.text, cut_off=cut_off, compat=compat)
    else:
        found = task_instances(reply.text, cut_off=cut_off, compat=compat)
    return Found(task, tuple(found), pedigree, None if found else "no-instances")


def rows_of(
    found: Found,
    ledger: Ledger,
    *,
    wanted: int,
    at_most: int,
    surface: Literal["plain", "varied"],
    compat: Compat,
    rng: np.random.Generator,
) -> None:
    """Sift one task's instances and put them into the ledger as examples, until it holds ``wanted``."""
    if found.reason:
        ledger.refuse(found.task.text, found.reason, found.pedigree)
        return
    sift = sifted(found.instances, found.task.text if compat == "fixed" else "")
    for instance, reason in sift.refused:
        ledger.refuse(f"{plain(found.task.text, instance)}\n\n{instance.output}", reason, found.pedigree)
    kept = list(sift.kept)
    drawn = set(range(len(kept)))
    if len(kept) > at_most:
        drawn = {int(i) for i in rng.choice(len(kept), size=at_most, replace=False)}
    for number, instance in enumerate(kept):
        pedigree = found.pedigree.and_then(instance=number)
        task = found.task.text
        prompt = plain(task, instance) if surface == "plain" else varied(task, instance, rng)
        if number not in drawn:
            ledger.refuse(f"{prompt}\n\n{instance.output}", "beyond-max-instances", pedigree)
        elif len(ledger.created) >= wanted:
            ledger.refuse(f"{prompt}\n\n{instance.output}", "surplus", pedigree)
        else:
            ledger.accept(prompt, instance.output, pedigree)
