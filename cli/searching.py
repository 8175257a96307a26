"""search: one configuration of self-guide for all tasks, by the smallest gain."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, SetOption, StoreOption, out, out_json


def search(
    recipe: Annotated[Path, typer.Argument(help="The search's YAML file.", show_default=False)],
    set_: SetOption = [],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    without_prefect: Annotated[
        bool, typer.Option("--without-prefect", help="Run the same steps as plain functions, without orchestration.")
    ] = False,
) -> None:
    """Try configurations of self-guide on several tasks and choose the one that serves every task (max of the min gain)."""
    from cli.progress import watching
    from flows.search_configuration import search_configuration
    from schemas.search import load_search
    from tasks.search_configuration import bench_of_search, outcome_of_search

    loaded = load_search(recipe, set_)
    with watching(quiet=as_json):
        ref = search_configuration.fn(loaded, store) if without_prefect else search_configuration(loaded, store)
    found = outcome_of_search(store, ref, bench_of_search(loaded, store))
    if as_json:
        out_json(found)
        return
    out(search_text(found))


def search_text(found: dict[str, Any]) -> str:
    """A table: configuration and task, before, after, change with its interval; the choice below it."""
    width = max(len(row["task"]) for row in found["gains"])
    lines = [f"{'configuration':<20} {'task':<{width}} metric        rows  before   after  change (95 % interval)"]
    for row in found["gains"]:
        lines.append(
            f"{row['configuration']:<20} {row['task']:<{width}} {row['metric']:<12} {row['examples']:>5}  "
            f"{_figure(row['before'])}  {_figure(row['after'])}  {_figure(row['change'], '+')} "
            f"({_figure(row['change_low'], '+')} to {_figure(row['change_high'], '+')})"
        )
    for name, least in found["smallest_gain"].items():
        mean, chosen = found["mean_gain"].get(name), "   chosen" if name == found["chosen"] else ""
        lines.append(f"{name:<20} smallest gain {_figure(least, '+')}, mean {_figure(mean, '+')}{chosen}")
    return "\n".join([*lines, f"{found['ref']}"])


def _figure(value: float | None, sign: str = "") -> str:
    return "     –" if value is None else f"{value:{sign or ' '}6.3f}"
