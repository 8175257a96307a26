"""init, check, plan, run: from an empty folder to a curated dataset."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, SetOption, StoreOption, out, out_json, say

RecipeArgument = Annotated[Path, typer.Argument(help="The recipe's YAML file.", show_default=False)]


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    as_json: JsonOption = False,
) -> None:
    """Make a project: a recipe, sample data and a README to start from."""
    from cli.starter import write_project

    files = write_project(folder)
    if as_json:
        out_json({"folder": str(folder), "files": [str(f) for f in files]})
        return
    for file in files:
        out(str(file))
    say(f"next: cd {folder} && provender check recipe.yaml && provender run recipe.yaml")


def check(recipe: RecipeArgument, set_: SetOption = [], as_json: JsonOption = False) -> None:
    """Every mistake of a recipe at once, before anything is spent: keys, names, files, benchmarks, backends."""
    from schemas.recipe import load_recipe
    from tasks.check import looks

    loaded = load_recipe(recipe, set_)
    notes = looks(loaded, str(recipe))
    if as_json:
        out_json({"recipe": str(recipe), "ok": True, "notes": notes})
        return
    for note in notes:
        out(note)
    out(f"{recipe}: ok")


def plan(
    recipe: RecipeArgument,
    set_: SetOption = [],
    store: StoreOption = DEFAULT_STORE,
    pilot: Annotated[
        int | None,
        typer.Option(
            min=2, metavar="N", help="Make N real calls per step, kept like any others, and say what all will cost."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a run would do and why: per step run / reuse / changed because …, rows, LLM calls, tokens and cost expected."""
    from cli.progress import watching
    from flows.curate import curation
    from schemas.recipe import load_recipe
    from tasks.plan import plan_of

    with watching(quiet=as_json or pilot is None):
        planned = plan_of(load_recipe(recipe, set_), store, curation, pilot=pilot)
    if as_json:
        out_json(planned)
        return
    from cli.costs import pilot_text
    from cli.render import plan_table

    out(plan_table(planned))
    if pilot is not None:
        out(f"\n{pilot_text(planned)}")


def run(
    recipe: RecipeArgument,
    set_: SetOption = [],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    without_prefect: Annotated[
        bool, typer.Option("--without-prefect", help="Run the same steps as plain functions, without orchestration.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write the HTML report and the dataset card at the end.")] = True,
    demo: Annotated[bool, typer.Option("--demo", hidden=True)] = False,
) -> None:
    """Run a recipe; finished steps are reused, so a run that was stopped goes on where it stood."""
    from flows.curate import curation
    from schemas.lineage import DatasetRef
    from schemas.recipe import load_recipe
    from storage.store import Store
    from tasks.check import looks
    from tasks.finetune import checked
    from tasks.plan import nothing_to_do, plan_of

    loaded = load_recipe(recipe, set_)
    planned = plan_of(loaded, store, curation)
    if nothing_to_do(planned, store):
        if loaded.finetune:  # a reason that opened it once may have been taken out of the recipe since
            checked(Store.open(store), DatasetRef.parse(planned.dataset), loaded.finetune)
        say(f"nothing to do: all {len(planned.steps)} steps are in the store, and {loaded.name} is {planned.dataset}")
        ref = planned.dataset
    else:
        looks(loaded, str(recipe), sources=False)  # a package that is absent at the end is told before the beginning
        ref = _run(loaded, store, without_prefect, quiet=as_json)
    written = _outcome(store, ref, loaded.name, planned.model_steps, report)
    if as_json:
        out_json(written)
        return
    from cli.render import outcome_text

    out(outcome_text(written, store, recipe if demo else None))


def _run(recipe: Any, store: Path, without_prefect: bool, quiet: bool) -> str:
    """The dataset's ref, made inside a Prefect flow run or without one."""
    from prefect.settings import get_current_settings

    from cli.progress import watching
    from flows.curate import curate
    from tasks.runner import with_runner

    if without_prefect:
        with watching(quiet):
            return curate.fn(recipe, store)
    if not get_current_settings().api.url:
        say("starting a temporary Prefect server, 10-30 s (`provender up` keeps one running)")
    with watching(quiet):
        return with_runner(curate, recipe.runner)(recipe, store)


def _outcome(store: Path, ref: str, name: str, model_steps: list[str], report: bool) -> dict[str, Any]:
    """Where everything is: dataset, report, card, model; what the run counted."""
    from tasks.outcome import outcome_of

    return outcome_of(store, ref, name, model_steps, write=report)
