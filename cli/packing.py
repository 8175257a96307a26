"""`benchmarks` and its sub-verbs: list the packs that have a name here, make and add one's own, forget one."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.console import JsonOption, out, out_json
from cli.groups import with_default

benchmarks = typer.Typer(cls=with_default("list"), help="The benchmark packs: list, add, build, remove.")

#: What `min_words` of the decontamination methods is at least.
FEW_WORDS = 5

Source = Annotated[
    str,
    typer.Argument(
        help="A .jsonl or .parquet file, or hub:owner/name@commit\\[:config\\[/split]].", show_default=False
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="The pack's name; the file's if absent.")]
Title = Annotated[str, typer.Option("--title", help="What it is, in a few words.")]
License = Annotated[str, typer.Option("--license", help="Its licence.")]
Columns = Annotated[
    list[str], typer.Option("--column", metavar="prompt=NAME", help="Column of prompt, answer or item; repeatable.")
]
Released = Annotated[
    datetime | None, typer.Option("--released", formats=["%Y-%m-%d"], help="Day its items could first be read.")
]


@benchmarks.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Packs that ship or were added: items, version, licence, release, source."""
    from cli import render
    from storage.packs.shelf import known, packs

    shipped = packs()
    listed = [
        {"name": name, "origin": "shipped" if name in shipped else "added", **info.model_dump(mode="json")}
        for name, info in known().items()
    ]
    columns = ["name", "origin", "version", "items", "license", "released", "source"]
    out_json(listed) if as_json else out(render.columns_text(listed, columns))


@benchmarks.command("add")
def add(
    source: Source, name: Name = None, title: Title = "", license_: License = "unknown", column: Columns = [],
    released: Released = None, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Give a file or hub dataset a name here, so that recipes, `decontaminate` and the gate know it as a benchmark."""
    from storage.packs.making import add as added
    from storage.packs.shelf import pack_folder

    _tell(added(source, **_about(name, title, license_, column, released)), pack_folder(), as_json)


@benchmarks.command("build")
def build(
    source: Source, to: Annotated[Path, typer.Option("--to", help="Folder to write into.")] = Path("packs"),
    name: Name = None, title: Title = "", license_: License = "unknown", column: Columns = [], released: Released = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write a pack to keep with a project: one Parquet file that a recipe names by its path, and what it is."""
    from storage.packs.making import build as built

    _tell(built(source, to, **_about(name, title, license_, column, released)), to, as_json)


@benchmarks.command("remove")
def remove(name: Annotated[str, typer.Argument(help="An added pack.")], as_json: JsonOption = False) -> None:
    """Forget an added pack; what was checked against it stays recorded."""
    from storage.packs.making import remove as removed

    removed(name)
    out_json({"removed": name}) if as_json else out(f"removed {name}")


def _about(name: str | None, title: str, license_: str, column: list[str], released: datetime | None) -> dict[str, Any]:
    from schemas.errors import UsageError

    columns = dict(text.split("=", 1) for text in column if "=" in text)
    wrong = [text for text in column if text.split("=")[0] not in ("prompt", "answer", "item") or "=" not in text]
    if wrong:
        raise UsageError(f"--column {wrong[0][:60]!a} is not prompt=NAME, answer=NAME or item=NAME")
    day = released.date() if released else None
    return {"name": name, "title": title, "license_": license_, "columns": columns, "released": day}


def _tell(made: tuple[str, Any], folder: Path, as_json: bool) -> None:
    name, info = made
    path = folder / f"{name}.parquet"
    short = _short_items(path)
    if as_json:
        out_json({"name": name, "path": str(path), **info.model_dump(mode="json"), "short_items": short})
        return
    told = f"; {short:,} of fewer than {FEW_WORDS} words, which no rule on words looks for" if short else ""
    out(f"{name}: version {info.version}, {info.items:,} items, {path}{told}")


def _short_items(pack: Path) -> int:
    """Items whose prompt has so few words that it stands everywhere, or none at all."""
    import polars as pl

    from methods.texts.ngrams import word_stream

    prompts = pl.read_parquet(pack, columns=["prompt"])["prompt"].fill_null("")
    return int((word_stream(prompts).lengths < FEW_WORDS).sum())
