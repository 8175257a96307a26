"""doctor, verify, gc, pretrain: care for the store and the machine."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json, say


def doctor(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """What is installed, what runs, what a store on this disk can promise."""
    from cli.examination import examine

    findings = examine(store)
    if as_json:
        out_json(findings)
    else:
        for finding in findings:
            out(f"{'ok ' if finding.ok else '!! '} {finding.what}: {finding.says}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def verify(
    dataset: Annotated[str | None, typer.Argument(help="Only this version and what it came from.")] = None,
    store: StoreOption = DEFAULT_STORE,
    shallow: Annotated[bool, typer.Option("--shallow", help="Invariants only; do not read every byte.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Digests and invariants of every version; exit code 4 when something is wrong."""
    from cli.store_read import looked_at
    from storage.store import Store

    opened = Store.open(looked_at(store), create=False)
    refs = [m.ref for m in opened.upstream(opened.resolve(dataset))] if dataset else [None]
    findings = [finding for ref in refs for finding in opened.verify(ref, deep=not shallow)]
    if as_json:
        out_json(findings)
    else:
        for finding in findings:
            out(f"{finding.place}: {finding.problem}; {finding.way_out}")
        say("sound" if not findings else f"{len(findings)} findings")
    if findings:
        raise typer.Exit(4)


def gc(
    store: StoreOption = DEFAULT_STORE,
    execute: Annotated[
        bool, typer.Option("--execute", help="Delete what an earlier plan named; without it, only plan.")
    ] = False,
    keep_days: Annotated[int, typer.Option(min=0, help="Keep untagged versions this long.")] = 14,
    grace_hours: Annotated[float, typer.Option(min=0, help="Never delete anything younger.")] = 24,
    as_json: JsonOption = False,
) -> None:
    """Plan what could be deleted, or carry out the newest plan; never what a tag reaches."""
    from cli.collecting import collect

    answer, text = collect(store, execute, keep_days, grace_hours)
    out_json(answer) if as_json else out(text)


def pretrain(
    data: Annotated[Path, typer.Argument(help="Folder with the openly licensed files the recipe names.")],
    to: Annotated[Path, typer.Option("--to", help="Folder for the model.")] = Path("sprout"),
    recipe: Annotated[Path, typer.Option(help="The training recipe.")] = Path("recipes/sprout.yaml"),
    as_json: JsonOption = False,
) -> None:
    """Train the embedded model from scratch, resumable, with the recipe that made the shipped one."""
    from backends.train.pretrain import pretrain_from_recipe

    def show(step: int, total: int, loss: float, tokens_per_second: float) -> None:
        say(f"step {step}/{total}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s")

    report = pretrain_from_recipe(recipe, data, to, progress=show)
    out_json(report) if as_json else out(str(to))
