"""What steps are expected to cost, in words: the plan's columns and the lines of a pilot."""

from typing import Any

from cli.plain import line


def costs(step: Any) -> tuple[str, str]:
    """(tokens, cost) of a planned step; no cost where no model is called or nobody sends an invoice."""
    if step.usd is not None:
        return span_of(step.tokens), f"≤ {usd(step.usd[1])}" if step.usd[1] else "$0"
    return span_of(step.tokens), "unknown" if step.billed else ""


def span_of(pair: tuple[int, int] | None) -> str:
    """(low, high) as people write it.

    >>> span_of((3, 3)), span_of((0, 4000)), span_of(None)
    ('3', '0–4,000', 'unknown')
    """
    if pair is None:
        return "unknown"
    return f"{pair[0]:,}" if pair[0] == pair[1] else f"{pair[0]:,}–{pair[1]:,}"


def usd(amount: float) -> str:
    """Dollars: four digits behind the point below one.

    >>> usd(0.01234), usd(1234.5)
    ('$0.0123', '$1,234.50')
    """
    return f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"


def pilot_text(planned: Any) -> str:
    """The pilots of a plan: a paragraph per step, and what was spent on them."""
    made = [(step, step.pilot) for step in planned.steps if step.pilot is not None]
    if not made:
        return "pilot: no step that is to run calls a model that can be piloted"
    told = [_one(step, pilot) for step, pilot in made]
    calls, paid = sum(pilot.made for _, pilot in made), sum(pilot.paid for _, pilot in made)
    spent = [pilot.spent_usd for step, pilot in made if step.billed]
    money = f", {usd(sum(spent))}" if all(one is not None for one in spent) else ", cost unknown"
    tokens = sum(pilot.spent_tokens for _, pilot in made)
    told.append(
        f"the pilot: {calls:,} calls, {paid:,} of them made now, {tokens:,} tokens{money if spent else ''}; all are kept"
    )
    return "\n".join(told)


def _one(step: Any, pilot: Any) -> str:
    head = f"{step.stage} {line(step.method)}: {pilot.made:,} calls on {pilot.rows:,} of {pilot.of_rows:,} rows of {pilot.on}"
    told = [head]
    for name, unit in (("calls", "{:,.0f}"), ("tokens", "{:,.0f}"), ("usd", "${:,.4f}")):
        found = getattr(pilot, name)
        if found is not None:
            high = unit.format(found.high) if found.high is not None else "unbounded"
            told.append(
                f"  {name:<6} about {unit.format(found.estimate)}, 95 % interval {unit.format(found.low)} to {high}"
            )
    if pilot.usd is None and step.billed:
        told.append("  usd    unknown: give the backend `prices`, or PROVENDER_PRICES a file")
    if pilot.note:
        told.append(f"  {line(pilot.note)}")
    return "\n".join(told)
