"""The calls behind a number: which model was asked what on the way to a version, a page at a time."""

from collections.abc import Sequence
from typing import Literal, get_args

import polars as pl

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.questions import figures
from storage.questions.kin import request_of
from storage.questions.views import Damage, ModelUse, View
from storage.questions.words import method_tag, preview
from storage.seek import Reader, legible
from storage.store import Store

CallState = Literal["any", "written", "scored", "failed", "cut-off", "cached", "unpriced"]
STATES: tuple[CallState, ...] = get_args(CallState)

#: What calls can be put in order by, most first; ``asked`` is the order in which the step kept them.
ORDERS = ("asked", "prompt_tokens", "completion_tokens", "cost_usd", "attempts")

_SMALL = (
    "model", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd", "attempts", "cached", "failure",
)  # fmt: skip


class CallLine(View):
    """A call as one line of a table."""

    position: int  # among the calls of its step, from 0
    key: str
    kind: str  # "generate", or "score": probabilities of a given text, which has no request and no reply
    model: str
    asked: str  # the beginning of the last message
    reply: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    attempts: int
    cached: bool
    failure: str | None


class CallSource(View):
    """A step on the way that called models."""

    ref: str
    stage: str
    method: str
    models: tuple[ModelUse, ...]


class CallsPage(View):
    """Some calls of one step; ``steps`` are all that called models on the way, the one with most calls first."""

    ref: str
    steps: tuple[CallSource, ...]
    step: str | None  # whose calls are listed; None where no model was called
    model: str | None
    state: CallState
    order: str
    start: int
    total: int
    rows: tuple[CallLine, ...]
    next: int | None
    damage: tuple[Damage, ...] = ()


def calls_of(
    store: Store,
    version: DatasetRef | str,
    *,
    step: str | None = None,
    model: str | None = None,
    state: CallState | None = None,
    order: str = "asked",
    start: int = 0,
    limit: int = 25,
) -> CallsPage:
    """Calls made on the way to a ref or tag.

    ``step`` is the ref of one step, else the one that wrote most. ``state``: calls that were ``written`` (the default, if
    the step wrote any), ``scored`` (probabilities of a given text), ``cut-off`` at their token limit, and so on.
    Raises ``UsageError`` for a step, state or order that there is not.
    """
    reader = Reader(store)
    ref = store.resolve(version) if isinstance(version, str) else version
    damage: list[Damage] = []
    used: list[tuple[Manifest, tuple[ModelUse, ...]]] = []
    for manifest in store.upstream(ref):
        try:
            if found := figures.money_by_model(reader, manifest):
                used.append((manifest, found))
        except (StoreError, OSError, pl.exceptions.PolarsError) as error:
            damage.append(Damage(place=str(manifest.ref), problem=str(error)[:300]))
    used.sort(key=lambda pair: (-_written(pair[1]), -sum(use.money.calls for use in pair[1])))
    chosen = next((manifest for manifest, _ in used if step in (None, str(manifest.ref))), None)
    if step is not None and chosen is None:
        named = ", ".join(str(manifest.ref) for manifest, _ in used) or "none did"
        raise UsageError(f"{step[:60]!r} called no model on the way to {ref}; steps that did: {named}")
    if state is None:
        state = "written" if any(_written(uses) for manifest, uses in used if manifest is chosen) else "any"
    if state not in STATES or order not in ORDERS:
        raise UsageError(f"calls are {', '.join(STATES)}, in the order of {', '.join(ORDERS)}")
    start, limit = max(0, start), max(1, min(limit, 500))
    total, lines = (0, ()) if chosen is None else _lines(reader, chosen, model, state, order, start, limit)
    return CallsPage(
        ref=str(ref),
        steps=tuple(
            CallSource(ref=str(m.ref), stage=m.ref.stage, method=method_tag(m), models=uses) for m, uses in used
        ),
        step=str(chosen.ref) if chosen else None,
        model=model,
        state=state,
        order=order,
        start=start,
        total=total,
        rows=tuple(lines),
        next=start + limit if start + limit < total else None,
        damage=tuple(damage),
    )


def _written(uses: Sequence[ModelUse]) -> int:
    return sum(use.money.calls - use.money.scorings for use in uses)


def _lines(
    reader: Reader, manifest: Manifest, model: str | None, state: CallState, order: str, start: int, limit: int
) -> tuple[int, Sequence[CallLine]]:
    """How many calls match, and a stretch of them; requests and replies are read for the stretch alone."""
    ref = manifest.ref
    with legible(f"calls of {ref}"):
        whole = sum(part.rows for part in manifest.parts["calls"])
        if model is None and state == "any" and order == "asked":
            total, positions = whole, list(range(start, min(start + limit, whole)))
        else:
            table = reader.scan(ref, "calls")
            told = "kind" in table.collect_schema().names()  # an older release kept no scorings
            small = table.select(
                *_SMALL, pl.col("kind").fill_null("generate") if told else pl.lit("generate").alias("kind")
            )
            found = small.with_row_index("position").filter(_wanted(model, state))
            if order != "asked":
                found = found.sort([order, "position"], descending=[True, False], nulls_last=True)
            matching = found.select("position").collect()["position"]
            total, positions = matching.len(), matching.slice(start, limit).to_list()
        rows = reader.rows(ref, "calls", positions).to_dicts()
    return total, [_line(position, row) for position, row in zip(positions, rows, strict=True)]


def _wanted(model: str | None, state: CallState) -> pl.Expr:
    conditions: dict[str, pl.Expr] = {
        "written": pl.col("kind") != "score",
        "scored": pl.col("kind") == "score",
        "failed": pl.col("failure").is_not_null(),
        "cut-off": pl.col("finish_reason") == "length",
        "cached": pl.col("cached"),
        "unpriced": pl.col("cost_usd").is_null(),
    }
    wanted = conditions.get(state, pl.lit(True))
    return wanted if model is None else wanted & (pl.col("model").fill_null("unknown") == model)


def _line(position: int, row: dict[str, object]) -> CallLine:
    request = request_of(row["request"] if isinstance(row["request"], str) else None)
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    asked = last.get("content", "") if isinstance(last, dict) else request.get("prompt") or request.get("text") or ""
    key = row["key"]
    return CallLine.model_validate(
        {name: row[name] for name in _SMALL if name not in ("model", "cached", "attempts")}
        | {
            "position": position,
            "key": key.hex() if isinstance(key, bytes) else "",
            "kind": row.get("kind") or "generate",
            "model": row["model"] or "unknown",
            "asked": preview(str(asked), 140),
            "reply": preview(str(row["reply"] or ""), 140),
            "attempts": row["attempts"] or 0,
            "cached": bool(row["cached"]),
        }
    )
