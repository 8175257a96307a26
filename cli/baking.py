"""bakeoff: which way to choose is worth it on this pool, measured with small proxies."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import DEFAULT_STORE, JsonOption, SetOption, StoreOption, out, out_json, say

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
    from cli.progress import watching
    from flows.bakeoff import bakeoff as flow
    from schemas.errors import UsageError
    from schemas.recipe import load_recipe
    from storage.files.places import local_folder
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
    """The table, best first, and the sentence. Who kept fewer than the budget allows is told apart."""
    from cli.plain import line, table

    lines = summary["table"]
    uneven = summary.get("keep_examples") is not None and len({one["examples"] for one in lines}) > 1
    rows = [
        [
            one["contender"],
            f"{one['loss']:.4f} [{one['low']:.4f}, {one['high']:.4f}]",
            "" if one["contender"] == summary["baseline"] else _gap(one["against_random"]),
            one["examples"],
            f"{one['stability']:.2f}",
            f"{one['choose_seconds']:.1f}",
            one["tokens"],
        ]
        for one in lines
    ]
    head = ["contender", "loss on the target", "against random", "examples", "overlap", "seconds", "tokens"]
    budget = (
        f"{'at most ' * uneven}{summary['keep_examples']} examples"
        if summary.get("keep_examples") is not None
        else f"at most {summary['budget_tokens']:,} tokens"
    )
    about = f"{budget} each, {lines[0]['seeds']} proxies each, {summary['target_examples']} target examples"
    costs = (
        "loss: nats per token, lower is better, with 95 %; overlap: what the choices of two seeds share, 0 to 1; "
        "seconds, tokens: of choosing once"
    )
    return f"{about}\n{table(head, rows, (3, 4, 5, 6), whole=(0, 1, 2))}\n{costs}\n{line(str(summary['says']))}"


def _gap(gap: "Mapping[str, float]") -> str:
    sure = "better" if _way(gap) < 0 else "worse" if _way(gap) > 0 else "no difference shown"
    return f"{gap['estimate']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}] {sure}"


def _way(gap: "Mapping[str, float]") -> int:
    """-1 where the whole interval lies below chance, 1 above, 0 where it holds it."""
    from methods.stats import NEGLIGIBLE

    return -1 if gap["high"] < -NEGLIGIBLE else int(gap["low"] > NEGLIGIBLE)


def bakeoff_svg(summary: "Mapping[str, Any]") -> str:
    """Each contender's difference to random selection with its interval, in nats per token over a scale; texts are escaped."""
    from html import escape

    rows = [one for one in summary["table"] if one["contender"] != summary["baseline"]]
    gaps = [one["against_random"] for one in rows]
    reach = max([abs(g[k]) for g in gaps for k in ("low", "high")] or [1.0]) * 1.1 or 1.0
    left, width, step = 220, 420, 28
    bottom = 32 + step * len(rows)

    def x(value: float) -> float:
        return left + width / 2 * (1 + value / reach)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 190}" height="{bottom + 50}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Loss on the target against random selection</title>",
    ]
    for tick in _ticks(reach):
        dashes, told = (' stroke-dasharray="3 3"', f"{tick:+g}") if tick else ("", "0")
        parts += [
            f'<line x1="{x(tick):.1f}" y1="20" x2="{x(tick):.1f}" y2="{bottom}" stroke="{"#ddd" if tick else "#888"}"{dashes}/>',
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555" font-size="11">{told}</text>',
        ]
    for number, (one, gap) in enumerate(zip(rows, gaps, strict=True)):
        y = 36 + step * number
        color = {-1: "#1b7f4b", 0: "#666", 1: "#b3362b"}[_way(gap)]
        told = f"{gap['estimate']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        parts += [
            f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(str(one["contender"])[:34])}</text>',
            f'<line x1="{x(gap["low"]):.1f}" y1="{y}" x2="{x(gap["high"]):.1f}" y2="{y}" stroke="{color}" stroke-width="3"/>',
            f'<circle cx="{x(gap["estimate"]):.1f}" cy="{y}" r="5" fill="{color}"/>',
            f'<text x="{left + width + 10}" y="{y + 4}" fill="{color}" font-size="12">{told}</text>',
        ]
    parts += [
        f'<text x="{x(0):.1f}" y="{bottom + 38}" text-anchor="middle" fill="#555">'
        "← better than random · nats per token, 95 % · worse →</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _ticks(reach: float) -> list[float]:
    """Round places of a scale from ``-reach`` to ``reach``, 0 among them.

    >>> _ticks(0.11)
    [-0.1, -0.05, 0.0, 0.05, 0.1]
    """
    power = 10.0 ** math.floor(math.log10(reach))
    step = next(size * power for size in (5, 2, 1, 0.5, 0.2) if reach / (size * power) >= 2)
    count = int(reach / step + 1e-9)
    return [round(k * step, 12) for k in range(-count, count + 1)]
