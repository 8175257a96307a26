"""What did it cost? Calls, tokens and money of every step of a store, by run, by stage, by model; unknown stays unknown."""

from collections.abc import Callable, Sequence

from schemas.errors import StoreError
from storage.questions import figures
from storage.questions.funnel import seconds_of
from storage.questions.views import Damage, Money, View
from storage.questions.words import method_tag
from storage.runs import Run, runs
from storage.seek import Reader
from storage.store import Store


class Spent(View):
    """One step's calls to one model."""

    run_id: str
    ref: str
    stage: str
    method: str
    model: str
    money: Money


class Sum(View):
    """Spendings that share a name."""

    name: str
    money: Money
    steps: int
    seconds: float | None  # of steps, those without calls included; None where nothing was recorded
    status: str | None = None  # of a run
    started_at: str | None = None
    recipe: str | None = None  # a run's name


class Cost(View):
    """Everything that was spent. A step that a later run reuses is paid once, by the run that made it."""

    money: Money
    seconds: float | None
    by_run: tuple[Sum, ...]
    by_stage: tuple[Sum, ...]
    by_model: tuple[Sum, ...]
    steps: tuple[Spent, ...]  # dearest first
    damage: tuple[Damage, ...] = ()


def cost(store: Store) -> Cost:
    """The cost of everything in the store."""
    reader = Reader(store)
    spent: list[Spent] = []
    seconds: list[tuple[str, str, float]] = []
    damage: list[Damage] = []
    for manifest in store.versions():
        run_id = str(manifest.run.get("run_id") or "unknown")
        took = seconds_of(manifest)
        if took is not None:
            seconds.append((run_id, manifest.ref.stage, took))
        try:
            used = figures.money_by_model(reader, manifest)
        except StoreError as error:
            damage.append(Damage(place=str(manifest.ref), problem=str(error)))
            continue
        spent += [
            Spent(
                run_id=run_id,
                ref=str(manifest.ref),
                stage=manifest.ref.stage,
                method=method_tag(manifest),
                model=use.model,
                money=use.money,
            )
            for use in used
        ]
    known = {run.run_id: run for run in runs(store.root)}
    by_run = _sums(spent, lambda one: one.run_id, [(run, took) for run, _, took in seconds])
    return Cost(
        money=figures.total([one.money for one in spent]) if spent else Money(),
        seconds=sum(took for _, _, took in seconds) if seconds else None,
        by_run=tuple(sorted((_named(one, known) for one in by_run), key=lambda s: s.started_at or "", reverse=True)),
        by_stage=_sums(spent, lambda one: one.stage, [(stage, took) for _, stage, took in seconds]),
        by_model=_sums(spent, lambda one: one.model, ()),
        steps=tuple(sorted(spent, key=_dearest)),
        damage=tuple(damage),
    )


def _named(one: Sum, known: dict[str, Run]) -> Sum:
    run = known.get(one.name)
    if run is None:
        return one
    return one.model_copy(update={"status": run.status, "started_at": run.started_at, "recipe": run.name})


def _sums(spent: Sequence[Spent], name: Callable[[Spent], str], took: Sequence[tuple[str, float]]) -> tuple[Sum, ...]:
    groups: dict[str, list[Money]] = {}
    steps: dict[str, set[str]] = {}
    for one in spent:
        groups.setdefault(name(one), []).append(one.money)
        steps.setdefault(name(one), set()).add(one.ref)
    seconds: dict[str, list[float]] = {}
    for group, value in took:
        seconds.setdefault(group, []).append(value)
    found = [
        Sum(
            name=group,
            money=figures.total(groups[group]) if group in groups else Money(),
            steps=len(steps.get(group, ())) if group not in seconds else len(seconds[group]),
            seconds=sum(seconds[group]) if group in seconds else None,
        )
        for group in dict.fromkeys([*groups, *seconds])
    ]
    return tuple(sorted(found, key=lambda one: (-(one.money.known_usd or 0), -one.money.calls, one.name)))


def _dearest(one: Spent) -> tuple[float, int, str]:
    tokens = one.money.prompt_tokens + one.money.completion_tokens
    return -(one.money.known_usd or 0.0), -tokens, one.ref
