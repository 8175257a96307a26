"""leaderboard: dataset versions by what they did for a model."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import DEFAULT_STORE, JsonOption, StoreOption, out, out_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.leaderboard import Board, Change, Leaderboard


def leaderboard(
    metric: Annotated[str | None, typer.Option(help="Only this metric: loss, exact-match, rouge-l, …")] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Dataset versions by what models trained on them achieved; unlike runs are kept apart, ties are called ties."""
    from cli.store_read import looked_at
    from storage.store import Store
    from tasks.leaderboard import leaderboard as boards_of

    found = boards_of(Store.open(looked_at(store), create=False), metric)
    out_json(found) if as_json else out(leaderboard_text(found))


def leaderboard_text(found: "Leaderboard") -> str:
    """Each board as a table with one sentence under it."""
    if not found.boards:
        return "no evaluation of a trained model yet; add `finetune:` and `evaluate:` to a recipe and run it"
    told = [_board_text(board) for board in found.boards]
    if found.apart:
        told.append(found.apart)
    return "\n\n".join(told)


def changes_text(changes: "Sequence[Change]") -> str:
    """What training on one version instead of the other did, metric by metric; empty where nothing was measured alike."""
    from cli.plain import line

    told = ["", "evaluation, after - before, paired over the same examples, 95 %:"] if changes else []
    for one in changes:
        told.append(
            line(f"  {one.metric} on {one.target}: {one.change:+.4f} [{one.low:+.4f}, {one.high:+.4f}], {one.verdict}")
        )
    return "\n".join(told)


def _board_text(board: "Board") -> str:
    from cli.plain import line, table

    better = "lower is better" if board.lower_is_better else "higher is better"
    target = board.target_name or board.target
    head = line(f"{board.metric} ({better}) on {board.target_examples} examples of {target}; model {board.model}")
    rows = [
        [
            entry.tags[-1] if entry.tags else entry.dataset,
            entry.examples,
            _with_interval(entry.value, entry.low, entry.high),
            _with_interval(entry.change, entry.change_low, entry.change_high, sign=True),
            entry.seeds,
            entry.against_best + ("" if entry.gap is None else f" ({entry.gap:+.4f})"),
        ]
        for entry in board.entries
    ]
    names = ["dataset", "examples", board.metric, "change by training", "seeds", "against the best"]
    return f"{head}\n{table(names, rows, (1, 4), whole=(0,))}\n{line(board.says)}"


def _with_interval(value: float | None, low: float | None, high: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "unknown"
    shape = "+.4f" if sign else ".4f"
    return f"{value:{shape}}" + ("" if low is None or high is None else f" [{low:{shape}}, {high:{shape}}]")
