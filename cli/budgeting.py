"""Where should the money for labels go? Pilots in a CSV file, an allocation with intervals out."""

import csv
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.console import JsonOption, out, out_json


def budget(
    question: Annotated[
        Literal["labels", "preferences"],
        typer.Argument(help="labels: cheap or good ones; preferences: demonstrations or preference pairs.", show_default=False),
    ],
    money: Annotated[float, typer.Option("--money", help="What there is to spend.")],
    pilots: Annotated[
        Path | None,
        typer.Option(
            "--pilots",
            help="CSV with a header: weak,strong,loss for labels; share,score (share of the money on demonstrations) for "
            "preferences, which has a rule of thumb without.",
        ),
    ] = None,
    weak_cost: Annotated[float, typer.Option("--weak-cost", help="labels: price of a cheap one.")] = 1.0,
    strong_cost: Annotated[float, typer.Option("--strong-cost", help="labels: price of a good one.")] = 10.0,
    cost_ratio: Annotated[
        float, typer.Option("--cost-ratio", help="preferences: price of a pair over that of a demonstration.")
    ] = 1.0,
    rng_seed: Annotated[int, typer.Option("--rng-seed", help="Random seed of the resamples.")] = 0,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Divide a budget between kinds of labels, by a law fitted to pilots, with intervals."""
    import numpy as np

    from methods.mixtures.budgets import allocate_labels, allocate_preferences, plain
    from schemas.errors import UsageError

    rng = np.random.default_rng(rng_seed)
    if question == "labels":
        if pilots is None:
            raise UsageError("budget labels needs --pilots: a CSV file with the columns weak, strong and loss")
        rows = [(a, b, c) for a, b, c in read_pilots(pilots, ("weak", "strong", "loss"))]
        found = allocate_labels(rows, budget=money, weak_cost=weak_cost, strong_cost=strong_cost, rng=rng)
    else:
        pairs = [(a, b) for a, b in read_pilots(pilots, ("share", "score"))] if pilots else []
        found = allocate_preferences(money, cost_ratio=cost_ratio, pilots=pairs, rng=rng)
    if as_json:
        out_json(plain(found))
        return
    for kind, amount in found.amounts.items():
        out(f"{amount:>12,} {kind}")
    out(found.says)


def read_pilots(path: Path, names: tuple[str, ...]) -> list[tuple[float, ...]]:
    """The named columns of a CSV file as numbers. Raises ``MissingSource`` or ``UnreadableSource`` with line and value."""
    from schemas.errors import MissingSource, UnreadableSource

    if not path.is_file():
        raise MissingSource(f"there is no file {str(path)!r}; --pilots names a CSV file with {', '.join(names)}")
    found: list[tuple[float, ...]] = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in names if name not in (reader.fieldnames or [])]
        if missing:
            raise UnreadableSource(f"{path} has no column {missing[0]!r}; its header must name {', '.join(names)}")
        for number, row in enumerate(reader, start=2):
            try:
                found.append(tuple(float(row[name] or "") for name in names))
            except ValueError:
                values = {name: str(row[name])[:40] for name in names}
                raise UnreadableSource(f"{path}, line {number}: {values} are not all numbers") from None
    return found
