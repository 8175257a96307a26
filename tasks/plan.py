"""What a run would do: every step with its reason, rows, expected calls and cost. Only a pilot calls anything."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from schemas.errors import StoreError
from schemas.lineage import DatasetRef, Manifest, Step
from schemas.recipe import Recipe, RecipeSource
from storage.calls.keys import is_billed, price_of
from storage.store import Store
from tasks import materialise
from tasks.bench import Bench, bench_of, open_store
from tasks.ingest import ingest
from tasks.pilot import MODELS, Pilot, pilot_of


class PlannedStep(BaseModel):
    """One line of a plan. Figures are (low, high); a known one has low = high; None = cannot be told.

    ``usd`` is None too where a model has no known price, or nobody sends an invoice for it (``billed`` is false).
    """

    ref: str
    stage: str
    method: str
    action: Literal["reuse", "run"]
    because: str
    rows: tuple[int, int] | None = None
    calls: tuple[int, int] | None = None
    tokens: tuple[int, int] | None = None
    usd: tuple[float, float] | None = None
    billed: bool = False
    pilot: Pilot | None = None


class Plan(BaseModel):
    """All steps in order, and the dataset they end in."""

    recipe: str
    dataset: str
    steps: list[PlannedStep]
    model_steps: list[str] = []  # refs of finetune and evaluate steps

    @property
    def to_run(self) -> int:
        """Steps that are not in the store yet."""
        return sum(step.action == "run" for step in self.steps)


def plan_of(
    recipe: Recipe, store: Path, curation: Callable[[Recipe, Bench], DatasetRef], *, pilot: int | None = None
) -> Plan:
    """The plan of a recipe against a store, by walking the very composition that a run walks, with a dry bench.

    ``pilot`` makes so many real calls of each step that is to run and calls a model; the sources are ingested for it.
    """
    bench = bench_of(recipe, store, dry=True)
    if pilot is not None:
        for name, source in recipe.sources.items():
            ingest(name, source, bench.model_copy(update={"dry": False}))
    try:
        dataset = curation(recipe, bench)
    finally:
        met = materialise.planned.pop(bench.run_id, [])
    opened = open_store(bench)
    before = _last_steps(opened, recipe.name)
    rows: dict[DatasetRef, tuple[int, int] | None] = {}
    steps = [_line(opened, p.step, p.manifest, before, rows, recipe) for p in met]
    if pilot is not None:
        steps = _piloted(steps, [p.step for p in met], recipe, store, pilot)
    models = [s.ref for s in steps if s.stage in ("finetune", "evaluate")]
    return Plan(recipe=recipe.name, dataset=str(dataset), steps=steps, model_steps=models)


def _piloted(lines: list[PlannedStep], steps: list[Step], recipe: Recipe, store: Path, calls: int) -> list[PlannedStep]:
    """The lines with a pilot where a step will call a model."""
    bench = bench_of(recipe, store)
    made_of = {step.output: step for step in steps}
    found: list[PlannedStep] = []
    for one, step in zip(lines, steps, strict=True):
        method = _method_of(step, recipe)
        if one.action == "run" and method is not None:
            one = one.model_copy(update={"pilot": pilot_of(step, method, bench, calls, made_of)})
        found.append(one)
    return found


def nothing_to_do(plan: Plan, store: Path) -> bool:
    """Whether every step is there and the recipe's tag already names the dataset."""
    if plan.to_run:
        return False
    try:
        return str(Store.open(store).resolve(plan.recipe)) == plan.dataset
    except StoreError:
        return False


def _line(
    store: Store,
    step: Step,
    manifest: Manifest | None,
    before: list[Step],
    rows: dict[DatasetRef, tuple[int, int] | None],
    recipe: Recipe,
) -> PlannedStep:
    method = str(step.method.get("method", step.method.get("source", step.method.get("name", ""))))
    if manifest:
        out = manifest.counts.rows_out
        rows[step.output] = (out, out)
        return PlannedStep(
            ref=str(step.output),
            stage=step.stage,
            method=method,
            action="reuse",
            because="in the store",
            rows=(out, out),
            calls=(0, 0),
            tokens=(0, 0),
        )
    rows[step.output] = _rows_expected(step, rows, recipe)
    calls, tokens = _calls_expected(step, store, rows, recipe)
    usd, billed = _cost_expected(step, recipe, tokens)
    return PlannedStep(
        ref=str(step.output), stage=step.stage, method=method, action="run", because=reason(step, before),
        rows=rows[step.output], calls=calls, tokens=tokens, usd=usd, billed=billed,
    )  # fmt: skip


def _last_steps(store: Store, name: str) -> list[Step]:
    """The steps behind the newest version of a tag, and what was trained on it."""
    try:
        newest = store.resolve(name)
        return [m.step for m in [*store.upstream(newest), *store.downstream(newest)]]
    except StoreError:
        return []


def reason(step: Step, before: list[Step]) -> str:
    """In words, what is new about a step compared with the one that stood in its place last time."""
    same_place = [
        old
        for old in before
        if old.stage == step.stage
        and old.method.get("method", old.method.get("source")) == step.method.get("method", step.method.get("source"))
    ]
    if not same_place:
        return "new step" if before else "never ran"
    old = max(same_place, key=lambda o: _likeness(o, step))
    said: list[str] = []
    for key in sorted({*old.method, *step.method}):
        a, b = old.method.get(key), step.method.get(key)
        if a != b:
            what = "the method's version" if key == "version" else f"field {key}"
            said.append(f"{what}: {_short(a)} -> {_short(b)}")
    for need in sorted({*old.backends, *step.backends}):
        said += [f"{need} {text}" for text in _differences(old.backends.get(need), step.backends.get(need))]
    for key in sorted({*old.content, *step.content}):
        if old.content.get(key) != step.content.get(key):
            said.append("the file's content" if key == "sha256" else f"{key} has new content")
    if old.rng_seed != step.rng_seed:
        said.append(f"rng_seed: {old.rng_seed} -> {step.rng_seed}")
    if not said and [r for r, _ in old.inputs] != [r for r, _ in step.inputs]:
        said.append("other inputs: " + ", ".join(role for role, _ in step.inputs))
    if not said:
        moved = [role for (role, a), (_, b) in zip(step.inputs, old.inputs, strict=True) if a != b]
        said.append(f"its input changed ({', '.join(moved)})" if moved else "its result is gone")
    return "changed: " + "; ".join(said)


def _likeness(a: Step, b: Step) -> int:
    keys = {*a.method, *b.method}
    return sum(a.method.get(k) == b.method.get(k) for k in keys) + 2 * (a.inputs == b.inputs)


def _differences(a: Any, b: Any) -> list[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return [f"{k}: {_short(a.get(k))} -> {_short(b.get(k))}" for k in sorted({*a, *b}) if a.get(k) != b.get(k)]
    return [] if a == b else [f"{_short(a)} -> {_short(b)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _rows_expected(
    step: Step, rows: dict[DatasetRef, tuple[int, int] | None], recipe: Recipe
) -> tuple[int, int] | None:
    """How many examples a step will give, as far as its inputs and its budget tell."""
    inputs = [rows.get(ref) for _, ref in step.inputs]
    match step.stage:
        case "ingest":
            limit = step.method.get("limit")
            source = recipe.sources.get(str(step.method.get("source")))
            lines = line_count(source) if source else None
            known = [n for n in (limit, lines) if isinstance(n, int)]
            return (0, min(known)) if known else None
        case "generate":
            wanted = step.method.get("examples")
            if step.method.get("method") == "self-guide" and isinstance(
                wanted, int
            ):  # of each task, at most one a seed
                wanted = wanted * inputs[0][1] if inputs and inputs[0] else None
            return (0, int(wanted)) if isinstance(wanted, int) else None
        case "gather":
            known = [r for r in inputs if r]
            return (sum(r[0] for r in known), sum(r[1] for r in known)) if len(known) == len(inputs) else None
        case "finetune":
            return (0, 0)
        case "rank" | "publish" | "evaluate" | "losses":
            pool = dict(step.inputs).get("pool")  # benchmarks of an evaluation have none
            return rows.get(pool) if pool else (0, 0)
        case _:
            pool = inputs[0] if inputs else None
            keep = step.method.get("keep_examples")
            high = min(pool[1], keep) if pool and isinstance(keep, int) else pool[1] if pool else None
            return None if high is None else (0, high)


def _calls_expected(
    step: Step, store: Store, rows: dict[DatasetRef, tuple[int, int] | None], recipe: Recipe
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """LLM calls and tokens of a step, (low, high), from the method's own estimate; zero where no model is called.

    The low end is zero: answers that an earlier run paid for are in the call cache.
    """
    if not any(need in step.backends for need in MODELS):
        return (0, 0), (0, 0)
    method: Any = _method_of(step, recipe)
    ref = step.inputs[0][1]
    if step.stage == "evaluate" and recipe.evaluate:
        method, ref = recipe.evaluate.pairwise, dict(step.inputs)["pool"]
    pool = rows.get(ref)
    if method is None or pool is None:
        return None, None
    most = method.expected_calls(pool[1], _words_each(store, ref))
    return (0, most.calls), (0, most.tokens)


def _cost_expected(
    step: Step, recipe: Recipe, tokens: tuple[int, int] | None
) -> tuple[tuple[float, float] | None, bool]:
    """((low, high) in USD, whether anybody sends an invoice). High: every token at the dearer of its models' prices."""
    models = [recipe.backends.named(need) for need in MODELS if need in step.backends]
    billed = any(is_billed(config) for config in models)
    prices = [price_of(config) for config in models]
    known = [max(price) for price in prices if price is not None]
    if tokens is None or not known or len(known) < len(prices):
        return None, billed
    return (0.0, tokens[1] * max(known) / 1e6), billed


def _method_of(step: Step, recipe: Recipe) -> Any:
    """The recipe's method that a step runs; None for stages without one."""
    return next((m for _, m in recipe.methods() if step.method.items() >= m.identity().items()), None)


def _words_each(store: Store, ref: DatasetRef) -> float:
    """Words of an average example of a version that is there; 60 before anything is."""
    manifest = store.lookup(ref)
    words = manifest.summary.get("words") if manifest else None
    return sum(words.values()) / max(manifest.counts.rows_out, 1) if manifest and words else 60.0


def line_count(source: RecipeSource) -> int | None:
    """Lines of a plain JSONL file up to 256 MiB: at most so many examples. None where that cannot be told cheaply."""
    path = Path(source.path)
    if path.suffix != ".jsonl" or not path.is_file() or path.stat().st_size > 2**28:
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b"")) + 1
