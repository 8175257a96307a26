"""One run in a terminal: what it spent, how its calls went, and what they met on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.plain import line, table
from storage.calls.troubles import WAITS, WORDS
from storage.questions.run_spending import Account, CallsMade, RunSpending
from storage.questions.run_troubles import MetOnTheWay
from storage.questions.words import counted, seconds


def spending_text(found: RunSpending, run_id: str) -> str:
    """The account against its limits, the calls, and the troubles by step and model; what is not recorded is said."""
    told = ["spent:", _account_text(found.account, found.ceilings_noted)]
    told += ["", f"calls: {_calls_text(found.calls)}"]
    told += ["", f"met on the way: {_met_words(found.met, run_id)}"]
    if found.met is not None:
        told.append(met_text(found.met))
    return "\n".join(told)


def met_text(met: MetOnTheWay) -> str:
    """A table by step and model: requests, what failed by kind, what was waited."""
    head = ["step", "model", "requests", *(word for _, word in met.kinds), *(word for _, word in met.waits)]
    lines = [*met.lines, met.total.model_copy(update={"step": "together"})] if len(met.lines) > 1 else met.lines
    rows = [
        (
            *(one.step or one.stage, one.model, f"{one.requests:,}"),
            *(f"{one.times.get(kind, 0):,}" for kind, _ in met.kinds),
            *(seconds(one.seconds.get(kind, 0.0)) for kind, _ in met.waits),
        )
        for one in lines
    ]
    return table(head, rows, range(2, len(head)), whole=(0,))


def met_by_model(met: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """What all runs of a store met, by model, as `provender cache stats` knows it; empty where nothing was counted."""
    if not met:
        return ""
    kinds = [kind for kind in WORDS if any(told.get(kind, {}).get("times") for told in met.values())]
    waits = [kind for kind in WAITS if any(told.get(kind, {}).get("seconds") for told in met.values())]
    head = ["model", "requests", *(WORDS[kind] for kind in kinds), *(WAITS[kind] for kind in waits)]
    rows: Sequence[tuple[Any, ...]] = [
        (
            *(name, *(f"{told.get(kind, {}).get('times', 0):,.0f}" for kind in ("request", *kinds))),
            *(seconds(told.get(kind, {}).get("seconds", 0.0)) for kind in waits),
        )
        for name, told in met.items()
    ]
    return table(head, rows, range(1, len(head)))


def _account_text(account: Account | None, noted: bool) -> str:
    if account is None:
        return "  not recorded; the ledger has no entry for this run, which may have called no model"
    rows: list[tuple[str, str, str, str]] = []
    for one in account.meters:
        limit = ("none" if noted else "not recorded") if one.ceiling is None else _amount(one.unit, one.ceiling)
        more = [f"{_amount(one.unit, one.in_flight)} more reserved"] if one.in_flight else []
        more += [f"{_amount(one.unit, one.lost)} lost with killed processes, at the worst case"] if one.lost else []
        more += [f"{account.unpriced:,} calls had no known price"] if one.unit == "usd" and account.unpriced else []
        rows.append(({"usd": "USD"}.get(one.unit, one.unit), _amount(one.unit, one.used), limit, "; ".join(more)))
    calls = f"{account.calls:,} call{'s' if account.calls != 1 else ''} paid"
    return table(("unit", "spent", "limit", "of it"), rows, (1, 2)) + f"\n{calls}"


def _amount(unit: str, value: float) -> str:
    return f"{value:.4f}" if unit == "usd" else seconds(value) if unit == "seconds" else f"{value:,.0f}"


def _calls_text(calls: CallsMade | None) -> str:
    if calls is None:
        return "not recorded by any step that this run finished"
    retries = "retries not recorded" if calls.retries is None else counted(calls.retries, "retry")
    failed = ", ".join(f"{line(name)} {count:,}" for name, count in calls.failures) or "none failed"
    return f"{calls.calls:,}, {calls.cached:,} of them from the cache; {retries}; {failed}"


def _met_words(met: MetOnTheWay | None, run_id: str) -> str:
    if met is None:
        return "not recorded; no model was asked, its engine does not count, or the run is of an older release"
    mine = ""
    if len(met.requests_by_run) > 1:
        mine = f" ({met.requests_by_run.get(run_id, 0):,} by this run, the others by the runs it resumes)"
    return met.says + mine
