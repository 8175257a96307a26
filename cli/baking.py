"""bakeoff: which way to choose is worth it on this pool, measured with small proxies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, SetOption, StoreOption, out, out_json, quiet_environment, say

if TYPE_CHECKING:
    from collections.abc import Mapping


def bakeoff(
    recipe: Annotated[Path, typer.Argument(help="A recipe with a `bakeoff:` section.", show_default=False)],
    set_: SetOption = [],
    store: StoreOption = DEFAULT_STORE,
    plot: Annotated[
        Path | None, typer.Option(help="Where to draw the result (SVG); by default in the store's reports.")
    ] = None,
    without_prefect: Annotated[
        bool, typer.Option("--without-prefect", help="Run the same steps as plain functions, without orchestration.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let methods choose under one budget, train proxies on each choice, measure on the target: a table with intervals."""
    quiet_environment()
    from cli.progress import watching
    from flows.bakeoff import bakeoff as flow
    from schemas.errors import UsageError
    from schemas.recipe import load_recipe
    from storage.places import local_folder
    from storage.store import Store
    from tasks.runner import with_runner

    loaded = load_recipe(recipe, set_)
    if loaded.bakeoff is None:
        raise UsageError(f"{recipe} has no `bakeoff:` section; list contenders there, see docs/selection.md")
    with watching(quiet=as_json):
        run = flow.fn if without_prefect else with_runner(flow, loaded.runner)
        ref = run(loaded, store)
    manifest = Store.open(store, create=False).describe(Store.open(store, create=False).resolve(ref))
    place = plot or local_folder(store) / "reports" / f"bakeoff-{manifest.ref.fingerprint}.svg"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(bakeoff_svg(manifest.summary), "utf-8")
    if as_json:
        out_json({"step": str(manifest.ref), "plot": str(place), **dict(manifest.summary)})
        return
    out(bakeoff_text(manifest.summary))
    say(f"{manifest.ref}; drawn in {place}")


def bakeoff_text(summary: "Mapping[str, Any]") -> str:
    """The table, best first, and the sentence."""
    from cli.plain import line, table

    rows = [
        [
            one["contender"],
            f"{one['loss']:.4f} [{one['low']:.4f}, {one['high']:.4f}]",
            "" if one["contender"] == summary["baseline"] else _gap(one["against_random"]),
            f"{one['stability']:.2f}",
            f"{one['choose_seconds']:.1f}",
            one["tokens"],
        ]
        for one in summary["table"]
    ]
    head = ["contender", "loss on the target", "against random", "overlap of seeds", "seconds", "tokens"]
    seeds = summary["table"][0]["seeds"]
    budget = (
        f"{summary['keep_examples']} examples"
        if summary.get("keep_examples") is not None
        else f"{summary['budget_tokens']:,} tokens"
    )
    about = f"{budget} each, {seeds} proxies each, {summary['target_examples']} target examples"
    return f"{about}\n{table(head, rows, (3, 4, 5), whole=(0,))}\n{line(str(summary['says']))}"


def _gap(gap: "Mapping[str, float]") -> str:
    sure = "better" if gap["high"] < 0 else "worse" if gap["low"] > 0 else "no difference shown"
    return f"{gap['estimate']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}] {sure}"


def bakeoff_svg(summary: "Mapping[str, Any]") -> str:
    """Each contender's difference to random selection with its interval, 0 drawn as a line; texts are escaped."""
    from html import escape

    rows = [one for one in summary["table"] if one["contender"] != summary["baseline"]]
    gaps = [one["against_random"] for one in rows]
    reach = max([abs(g[k]) for g in gaps for k in ("low", "high")] or [1.0]) * 1.1 or 1.0
    left, width, step = 220, 420, 28
    height = 60 + step * len(rows)

    def x(value: float) -> float:
        return left + width / 2 * (1 + value / reach)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Loss on the target against random selection</title>",
        f'<line x1="{x(0):.1f}" y1="20" x2="{x(0):.1f}" y2="{height - 30}" stroke="#888" stroke-dasharray="3 3"/>',
    ]
    for number, (one, gap) in enumerate(zip(rows, gaps, strict=True)):
        y = 36 + step * number
        color = "#1b7f4b" if gap["high"] < 0 else "#b3362b" if gap["low"] > 0 else "#666"
        parts += [
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(str(one["contender"])[:34])}</text>',
            f'<line x1="{x(gap["low"]):.1f}" y1="{y}" x2="{x(gap["high"]):.1f}" y2="{y}" stroke="{color}" stroke-width="3"/>',
            f'<circle cx="{x(gap["estimate"]):.1f}" cy="{y}" r="5" fill="{color}"/>',
        ]
    parts += [
        f'<text x="{x(0):.1f}" y="{height - 10}" text-anchor="middle" fill="#555">'
        "← better than random · nats per token · worse →</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
