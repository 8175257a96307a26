"""A pilot: a few real calls of a step, to say with an interval what all of them will cost. Nothing is paid twice.

The step's own method runs, over a random sample of its rows or (where it writes until it has enough) as it would, until
the pilot's calls are used up. The calls are in the call cache afterwards like any others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from pydantic import BaseModel

from backends.protocols import LLM, Reply, Request, ScoreRequest, TokenLogprobs
from methods.keyed import by_key, keyed_hashes
from schemas.errors import BudgetExceeded, EngineDown, ProvenderError, Stopped
from schemas.lineage import DatasetRef, Step
from schemas.method import Using
from storage.calls.keys import price_of
from storage.store import Store
from tasks.bench import Bench, open_store, using
from tasks.extrapolate import Kind, Range, scaled_up, until_target

#: The engines whose calls cost.
MODELS = ("llm", "judge", "student")
_STAGES = frozenset({"generate", "dedup", "filter", "rank"})


class Pilot(BaseModel):
    """What a pilot of one step found. Totals are of the whole step, what is in the cache already included.

    ``usd`` is None when a price is unknown or nobody sends an invoice.
    """

    made: int  # calls answered
    paid: int  # of them, those that were not in the cache
    spent_tokens: int
    spent_usd: float | None
    rows: int  # rows the pilot looked at
    of_rows: int
    on: str  # the version whose rows they are: the step's input, or what it will be made of
    complete: bool  # whether every kind of call was seen
    calls: Range | None = None
    tokens: Range | None = None
    usd: Range | None = None
    note: str = ""


class _Enough(Exception):
    """The pilot's calls are used up."""


class _Watched:
    """Lets so many calls through and keeps what each cost; equal over all models of a step."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.kinds: dict[str, Kind] = {}
        self.each: list[tuple[float, float | None]] = []  # tokens and USD of each call, in order
        self.paid = 0

    def share(self, count: int) -> int:
        """How many of a list of ``count`` calls may be made."""
        allowed = min(count, self.left)
        self.left -= allowed
        return allowed

    def note(self, kind: str, prompt: str, tokens: float, usd: float | None, cached: bool) -> None:
        """Count one answered call."""
        entry = self.kinds[kind].values.setdefault(prompt, [0.0, 0.0, 0.0])
        entry[0] += 1
        entry[1] += tokens
        entry[2] += usd or 0.0
        self.kinds[kind].answered += 1
        self.each.append((tokens, usd))
        self.paid += not cached


class _PilotLLM:
    """A model of the step that stops the step when the pilot's calls are used up."""

    def __init__(self, llm: LLM, watched: _Watched) -> None:
        self._llm, self._watched = llm, watched
        self._price = price_of(getattr(llm, "engine", llm))
        self._name = str(sorted(llm.identity().items()))

    def identity(self) -> Mapping[str, Any]:
        """The model's."""
        return self._llm.identity()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The model's."""
        return self._llm.count_tokens(texts)

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """Ask what may be asked; the step ends here if that is not all."""
        kinds = [self._kind(r.sampling, r.prompt is None) for r in requests]
        for kind in kinds:
            self._watched.kinds.setdefault(kind, Kind()).asked += 1
        asked = requests[: self._watched.share(len(requests))]
        replies = self._llm.generate(asked)
        for request, reply, kind in zip(asked, replies, kinds, strict=False):
            tokens = reply.prompt_tokens + reply.completion_tokens
            usd = reply.cost_usd
            if usd is None and self._price is not None:
                usd = (reply.prompt_tokens * self._price[0] + reply.completion_tokens * self._price[1]) / 1e6
            self._watched.note(kind, str(request.prompt or request.messages), tokens, usd, reply.cached)
        if len(asked) < len(requests):
            raise _Enough
        return replies

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """As ``generate``; a scoring costs the tokens it reads."""
        kind = f"{self._name} score {bool(requests and requests[0].messages)}"
        self._watched.kinds.setdefault(kind, Kind()).asked += len(requests)
        asked = requests[: self._watched.share(len(requests))]
        scored = self._llm.logprobs(asked)
        for request, result in zip(asked, scored, strict=True):
            read = result.prompt_tokens + result.n_tokens
            usd = None if self._price is None else read * self._price[0] / 1e6
            self._watched.note(kind, str((request.messages, request.completion)), read, usd, False)
        if len(asked) < len(requests):
            raise _Enough
        return scored

    def _kind(self, sampling: Any, chat: bool) -> str:
        return f"{self._name} {chat} {replace(sampling, index=0, seed=0)}"


def pilot_of(step: Step, method: Any, bench: Bench, calls: int, made_of: Mapping[DatasetRef, Step]) -> Pilot | None:
    """The pilot of one step with at most ``calls`` calls; None where the stage cannot be piloted.

    ``made_of`` are the steps of the plan by their output: where the step's input is not there yet, the rows it will be
    made of stand in. Raises ``BudgetExceeded``, ``EngineDown`` and ``Stopped``.
    """
    if step.stage not in _STAGES or "tune" in method.needs or not any(need in method.needs for need in MODELS):
        return None
    store = open_store(bench)
    homes = _stand_in(store, step.inputs[0][1], made_of)
    if not homes:
        return None
    pool = places_of(store, homes)
    on = " + ".join(str(ref) for ref in homes)
    watched = _Watched(calls)
    reported: list[tuple[int, int]] = []
    tools, _ = using(bench, method, step.stage, lambda done, total, note="": reported.append((done, total)))
    tools = replace(
        tools,
        **{f"_{need}": _PilotLLM(getattr(tools, need), watched) for need in MODELS if need in method.needs},
    )
    searches = step.stage == "generate" and isinstance(getattr(method, "examples", None), int)
    asked = pool if searches else _sample(pool, _rows_for(method, pool.height, calls), bench.rng_seed)
    rows = pl.concat([taken(store, ref, asked.filter(of=n)["at"]) for n, ref in enumerate(homes)])
    complete, note = True, ""
    try:
        _run(step, method, rows, tools, bench, store, made_of)
    except _Enough:
        complete = False
    except (BudgetExceeded, EngineDown, Stopped):
        raise
    except ProvenderError as error:
        complete, note = False, f"the method could not go on with {rows.height} rows: {str(error).splitlines()[0]}"
    return _found(method, watched, reported if searches else None, rows.height, pool.height, on, complete, note)


def _run(
    step: Step, method: Any, rows: pl.DataFrame, tools: Using, bench: Bench, store: Store, made_of: Mapping[Any, Step]
) -> None:
    rng = bench.rng(step.method)
    if step.stage == "generate":
        method.generate(rows, using=tools, rng=rng)
    elif step.stage == "rank":
        aims = [home for role, ref in step.inputs if role == "target" for home in _stand_in(store, ref, made_of)]
        target = pl.concat([store.pool(ref) for ref in aims]) if aims else None
        method.rank(rows, target=target, using=tools, rng=rng)
    else:
        method.judge(rows, using=tools, rng=rng)


def _found(
    method: Any,
    watched: _Watched,
    reported: list[tuple[int, int]] | None,
    rows: int,
    of_rows: int,
    on: str,
    complete: bool,
    note: str,
) -> Pilot:
    """The figures of a pilot that has been made."""
    spent = [tokens for tokens, _ in watched.each]
    money = [usd for _, usd in watched.each]
    priced = all(usd is not None for usd in money) and bool(money)
    known = [usd or 0.0 for usd in money]
    pilot = Pilot(
        made=len(spent),
        paid=watched.paid,
        spent_tokens=round(sum(spent)),
        spent_usd=sum(known) if priced else None,
        rows=rows,
        of_rows=of_rows,
        on=on,
        complete=complete,
        note=note,
    )
    if not spent:
        return pilot.model_copy(update={"note": note or "no call was made"})
    if reported is not None:
        return pilot.model_copy(update=_searched(method, spent, known if priced else None, reported, complete))
    kinds = list(watched.kinds.values())
    if not complete and not note:
        each = method.expected_calls(max(of_rows, 1), 60.0).calls / max(of_rows, 1)
        need = max(sum(kind.asked for kind in kinds) + 1, round(2 * each))
        note = f"{len(spent)} calls did not reach the end of {rows} rows; what comes later is not in the figures: --pilot {need}"
    return pilot.model_copy(
        update={
            "calls": scaled_up(kinds, 0, rows, of_rows),
            "tokens": scaled_up(kinds, 1, rows, of_rows),
            "usd": scaled_up(kinds, 2, rows, of_rows) if priced else None,
            "note": note,
        }
    )


def _searched(
    method: Any, spent: list[float], money: list[float] | None, reported: list[tuple[int, int]], complete: bool
) -> dict[str, Any]:
    """A step that writes until it has enough: by how many were accepted for the pilot's calls."""
    wanted = int(method.examples)
    accepted = wanted if complete else min(max((done for done, _ in reported), default=0), wanted)
    figures = {"calls": [1.0] * len(spent), "tokens": spent, **({"usd": money} if money is not None else {})}
    if complete:
        return {name: Range(estimate=sum(v), low=sum(v), high=sum(v)) for name, v in figures.items()}
    update: dict[str, Any] = {name: until_target(values, accepted, wanted) for name, values in figures.items()}
    words = "nothing was accepted yet, so nothing bounds it from above" if not accepted else ""
    return {**update, "note": words or f"{accepted} of {wanted} examples were accepted in the pilot"}


def _rows_for(method: Any, of_rows: int, calls: int) -> int:
    """Rows whose calls use the pilot up, by the method's own estimate; at least two."""
    expected = method.expected_calls(max(of_rows, 1), 60.0).calls
    each = max(1.0, expected / max(of_rows, 1))
    return max(2, int(calls / each))


def places_of(store: Store, homes: Sequence[DatasetRef]) -> pl.DataFrame:
    """Each example once: its ``id``, ``of`` which version, and ``at`` which place of it. Texts are read of a sample only."""
    ids = [store.pool(ref, ["id"]).with_row_index("at").with_columns(of=pl.lit(n)) for n, ref in enumerate(homes)]
    return pl.concat(ids).unique("id", keep="first", maintain_order=True)


def taken(store: Store, ref: DatasetRef, at: pl.Series) -> pl.DataFrame:
    """EXAMPLES at these places of a version."""
    return store.take(ref, store.positions(ref)[at])


def _sample(pool: pl.DataFrame, count: int, rng_seed: int) -> pl.DataFrame:
    """Rows drawn by their ids, in the pool's order."""
    if count >= pool.height:
        return pool
    order = by_key(keyed_hashes(pool["id"], rng_seed ^ 0x9107), pool["id"])
    return pool[sorted(order[:count].tolist())]


def _stand_in(store: Store, ref: DatasetRef, made_of: Mapping[DatasetRef, Step]) -> list[DatasetRef]:
    """The version itself if it is there, else the versions that it will be made of, as far back as need be."""
    if store.lookup(ref) is not None:
        return [ref]
    step = made_of.get(ref)
    if step is None or not step.inputs:
        return []
    inputs = step.inputs if step.stage in ("gather", "mix") else step.inputs[:1]
    return [home for _, one in inputs for home in _stand_in(store, one, made_of)]
