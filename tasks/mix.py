"""Blend the sources of a pool: how much of each, which examples, in which order."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import polars as pl

from methods.mix import AnyMix
from methods.mixtures.rounding import times_of
from schemas.examples import FATES
from schemas.lineage import DatasetRef, Rule
from schemas.method import Blend, Stretch
from tasks.bench import Bench
from tasks.columns import pool_for
from tasks.figures import figures_of_members
from tasks.materialise import Work, materialise
from tasks.proxies import by_source, inputs_of, map_proxy_runs, stopping
from tasks.settle import keep_all
from tasks.stage_task import stage_task

_HASHED_AT_ONCE = 65_536

OVER_QUOTA = Rule(name="mixture-quota", says="its source gives no more examples to this mixture")


def mix_sources(pool: DatasetRef, method: AnyMix, bench: Bench, target: DatasetRef | None = None) -> DatasetRef:
    """The pool's sources in the weights the method finds; an example may repeat, and the order is a keyed shuffle, within
    the stages of a curriculum where the method has one (``ordered`` in the summary).

    ``target`` counts only for methods that aim. Proxy runs of a method that has any are mapped over the flow's runner.
    """
    aim = target if method.aims else None
    map_proxy_runs(pool, method, bench, aim)
    return mix_pool(pool, method, bench, aim)


@stage_task("mix {method.method}")
def mix_pool(pool: DatasetRef, method: AnyMix, bench: Bench, aim: DatasetRef | None) -> DatasetRef:
    """The mixture of a pool, its proxy runs found measured or made here one after the other."""

    def compute(work: Work) -> None:
        rows = pool_for(work.store, pool, method)
        sources = by_source(rows)
        held_out = work.store.pool(aim) if aim else None
        tools = replace(work.using, once=stopping(work.using.once, work.store))
        blend = method.weigh(sources, using=tools, rng=work.rng, target=held_out)
        available = {name: frame.height for name, frame in sources.items()}
        ids, of = rows["id"], rows["source"]
        del rows, sources
        parts = taken(ids, of, course_of(blend), work.bench.rng_seed)
        times = np.zeros(len(ids), dtype=np.uint32)
        for part in parts:
            times[part.places] += part.times
        work.draft.homes = list(work.store.describe(pool).homes)
        work.draft.rules = [OVER_QUOTA]
        work.draft.put("verdicts/pool", fates(times > 0))
        members = work.store.positions(pool)[in_order(ids, parts, work.bench.rng_seed)]
        work.draft.put("members", members)
        if blend.runs is not None:
            work.draft.put("sidecar/runs", blend.runs)
        work.draft.summary.update(
            figures_of_members(work.store, pool, members)
            | {
                "weights": dict(blend.weights),
                "take": dict(blend.take),
                "available": available,
                "notes": dict(blend.notes),
            }
            | ({"ordered": True, "stages": dict(blend.stages)} if blend.stages is not None else {})
            | ({"passes": [asdict(part) for part in blend.course]} if blend.course else {})
        )

    return materialise("mix", method, inputs_of(pool, aim), bench, compute)


def course_of(blend: Blend) -> list[Stretch]:
    """The parts of a mixture: of its course, or one of each pool, in its stage."""
    if blend.course:
        return list(blend.course)
    stages = blend.stages or {}
    return [Stretch(name, n, 0, stages.get(name, len(stages))) for name, n in sorted(blend.take.items()) if n]


@dataclass(frozen=True)
class Taken:
    """The examples of one part: places in the pool (UInt32), how often each stands in the part, and its turn and stage."""

    places: np.ndarray
    times: np.ndarray
    turn: int
    stage: int


def taken(ids: pl.Series, sources: pl.Series, course: Sequence[Stretch], rng_seed: int) -> list[Taken]:
    """Which examples make up each part of a course."""
    found: list[Taken] = []
    for part in course:
        places = np.flatnonzero((sources == part.pool).to_numpy()).astype(np.uint32)
        times = times_of(ids[pl.Series(places)], part.examples, rng_seed)
        found.append(Taken(places[times > 0], times[times > 0], part.turn, part.stage))
    return found


def fates(kept: np.ndarray) -> pl.DataFrame:
    """Verdicts at rest: kept, or over the quota."""
    return keep_all(len(kept)).with_columns(
        fate=pl.Series(np.where(kept, FATES.index("keep"), FATES.index("reject")), dtype=pl.UInt8),
        rule=pl.Series(np.where(kept, 0, 1), dtype=pl.UInt16),
    )


def in_order(ids: pl.Series, parts: Sequence[Taken], rng_seed: int) -> pl.Series:
    """Places in the pool of the members, with repeats: ordered by turn and stage, then by a hash of (seed, id,
    occurrence), so that growth elsewhere moves nobody's neighbours.
    """
    before = np.zeros(len(ids), dtype=np.uint32)  # how often an example stood in earlier parts
    places, turns, stages, keys = (list[np.ndarray]() for _ in range(4))
    for part in parts:
        where = np.repeat(part.places, part.times)
        first = np.cumsum(part.times, dtype=np.int64) - part.times
        nth = np.arange(len(where)) - np.repeat(first, part.times) + before[where]
        before[part.places] += part.times
        places.append(where)
        turns.append(np.full(len(where), part.turn, dtype=np.int32))
        stages.append(np.full(len(where), part.stage, dtype=np.int32))
        keys.append(hashed(ids, where, nth, rng_seed))
    order = np.lexsort(tuple(np.concatenate(column) for column in (keys, stages, turns)))
    return pl.Series(np.concatenate(places)[order])


def hashed(ids: pl.Series, places: np.ndarray, nth: np.ndarray, rng_seed: int) -> np.ndarray:
    """A uint64 for each occurrence of an example, (len(places),)."""
    salt = rng_seed.to_bytes(8, "little", signed=True)
    keys = np.empty(len(places), dtype=np.uint64)
    for start in range(0, len(places), _HASHED_AT_ONCE):
        piece = slice(start, start + _HASHED_AT_ONCE)
        examples = zip(ids[pl.Series(places[piece])].to_list(), nth[piece].tolist(), strict=True)
        digests = (hashlib.sha256(salt + example + k.to_bytes(4, "little")).digest()[:8] for example, k in examples)
        keys[piece] = np.frombuffer(b"".join(digests), dtype=">u8")
    return keys
