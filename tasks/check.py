"""What `provender check` looks at beyond the recipe's own shape: files, benchmarks, packages, engines."""

import importlib.util

from methods.decontaminate._sought import looked_for
from schemas.errors import ProvenderError, RecipeError
from schemas.recipe import Recipe
from storage.calls.keys import is_billed, price_of
from storage.packs.shelf import load_pack
from storage.readers import source_digest
from tasks.gate import NO_CHECK

#: Which package an optional backend needs, and the command that brings it.
PACKAGES = {
    "transformers": ("transformers", "local"),
    "sentence-transformers": ("transformers", "local"),
    "trl": ("trl", "local"),
    "torch": ("torch", "local"),
    "hidden-states": ("transformers", "local"),
    "cross-encoder": ("transformers", "local"),
}


def looks(recipe: Recipe, place: str, *, sources: bool = True) -> list[str]:
    """One line per thing that was found in order; ``RecipeError`` with everything that was not.

    Without ``sources`` no source is read: a plan has read them already, and they may be large.
    """
    notes: list[str] = []
    mistakes: list[str] = []
    for name, source in recipe.sources.items() if sources else ():
        try:
            digest = source_digest(source)
            notes.append(f"source {name}: {source.path} ({digest[:12]}), {source.license or 'licence unknown'}")
        except ProvenderError as error:
            mistakes.append(f"sources.{name}: {error}")
    shut = recipe.finetune is not None and not recipe.finetune.override_gate  # a closed gate would stop this recipe
    if recipe.decontaminate:
        for i, benchmark in enumerate(recipe.decontaminate.benchmarks):
            try:
                pack = load_pack(benchmark)
                told = f"benchmark {pack.name}: {pack.items.height} items, version {pack.version}"
                found = max(
                    (looked_for(m, pack.items) for m in recipe.decontaminate.by if m.name not in NO_CHECK), default=0
                )
                few = pack.items.height - found
                notes.append(told + (f", {few} too short to be looked for" if few and found else ""))
                if not found and any(m.name not in NO_CHECK for m in recipe.decontaminate.by):
                    none = f"decontaminate.benchmarks.{i}: no item of {pack.name} has enough words; lower `min_words`"
                    (mistakes if shut else notes).append(none)
            except ProvenderError as error:
                mistakes.append(f"decontaminate.benchmarks.{i}: {error}")
        if all(method.name in NO_CHECK for method in recipe.decontaminate.by):
            names = ", ".join(method.name for method in recipe.decontaminate.by)
            told = f"decontaminate.by: {names} compares no text with an item; add {{method: ngram-coverage}}"
            (mistakes if shut else notes).append(told)
    else:
        notes.append("no `decontaminate:`: the gate will stay unchecked, and a fine-tuning run would be refused")
        if shut:
            mistakes.append("finetune: the gate is closed without `decontaminate:`; add it, or set override_gate")
    chosen = [(f"backends.{name}", getattr(recipe.backends, name)) for name in type(recipe.backends).model_fields]
    if recipe.finetune:
        chosen.append(("finetune.by", recipe.finetune.by))
    for path, backend in chosen:
        if backend is None:
            continue
        package, extra = PACKAGES.get(backend.backend, ("", ""))
        if package and importlib.util.find_spec(package) is None:
            mistakes.append(f"{path}: {backend.backend} needs a package: pip install 'provender[{extra}]'")
            continue
        if lacking := getattr(backend, "lacking", str)():
            mistakes.append(f"{path}: {lacking}")
            continue
        try:
            backend.identity()
            notes.append(f"{path}: {backend.backend}")
        except ProvenderError as error:
            mistakes.append(f"{path}: {error}")
    if recipe.evaluate and recipe.evaluate.harness:
        try:
            told = recipe.evaluate.harness.identity()
            notes.append(f"evaluate.harness: lm-evaluation-harness {told['lm_eval']}, {len(told['tasks'])} tasks")
        except ProvenderError as error:
            mistakes.append(f"evaluate.harness: {error}")
    mistakes += _unpriced(recipe)
    if recipe.finetune and recipe.finetune.trigger == "deployment" and "/" not in recipe.finetune.deployment:
        mistakes.append(f"finetune.deployment: {recipe.finetune.deployment!r} is not of the form flow/deployment")
    if mistakes:
        raise RecipeError(place, mistakes)
    return notes


def _unpriced(recipe: Recipe) -> list[str]:
    """Models that a ceiling in USD cannot bind, since nobody gave their price."""
    if recipe.budget.max_usd is None:
        return []
    given = {name: getattr(recipe.backends, name) for name in ("llm", "judge", "student")}
    return [
        f"budget.max_usd: backends.{name} has no known price, so the ceiling cannot bind; give it `prices`, set "
        "PROVENDER_PRICES, or use max_tokens"
        for name, config in given.items()
        if config is not None and is_billed(config) and _price(config) is None
    ]


def _price(config: object) -> tuple[float, float] | None:
    try:
        return price_of(config)
    except ProvenderError:
        return None  # the table of prices is broken: its own mistake says so when a run asks for it
