"""Proxy runs: what a small model learns from a mixture, and its loss on each measured group after. Each is made once."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from backends.protocols import TokenLogprobs, Tuning, Turn
from methods.conversation import as_turns, content_at, roles_of
from methods.keyed import by_key, keyed_hashes
from methods.mixtures.rounding import choose, largest_remainder
from schemas.errors import UsageError
from schemas.method import Using

#: Part of every remembered run's identity; rises when the same question would get another answer.
RUN_VERSION = 1

Conversations = list[list[Turn]]


@dataclass(frozen=True)
class Lab:
    """What proxies learn from and are measured on. Frames have columns ``id``, ``content_hash`` and ``messages``, by id.

    ``train`` has the sources with rows, by name; ``measured`` the groups whose loss counts. ``left_out`` counts what
    cannot be learned or was held out, by reason.
    """

    train: Mapping[str, pl.DataFrame]
    measured: Mapping[str, pl.DataFrame]
    left_out: Mapping[str, int]

    @property
    def sources(self) -> list[str]:
        """Names in order."""
        return list(self.train)

    @property
    def groups(self) -> list[str]:
        """Names in order."""
        return list(self.measured)

    @property
    def sizes(self) -> np.ndarray:
        """Examples to learn per source, float64."""
        return np.array([frame.height for frame in self.train.values()], dtype=np.float64)


def prepared(
    pools: Mapping[str, pl.DataFrame], target: pl.DataFrame | None, *, eval_examples: int, rng_seed: int
) -> Lab:
    """The lab of these pools: measured on the sources of ``target``, or, without one, on examples held out of each pool.

    Held out are up to ``eval_examples`` and a fifth of a pool, by ``hash(rng_seed, id)``. An example whose text stands in
    the target is never learned from. Raises ``UsageError`` where nothing can be learned or measured.
    """
    left: dict[str, int] = {}
    usable = {name: learnable(frame) for name, frame in sorted(pools.items())}
    left["no answer to learn"] = sum(pools[name].height - frame.height for name, frame in usable.items())
    if target is not None:
        rows = learnable(target)
        left["target examples without an answer"] = target.height - rows.height
        groups = {
            str(name): _first(rows.filter(pl.col("source") == name), eval_examples, rng_seed)
            for name in rows["source"].unique().sort()
        }
        seen = rows["content_hash"]
        train = {name: frame.filter(~pl.col("content_hash").is_in(seen.implode())) for name, frame in usable.items()}
        left["in the target set"] = sum(usable[name].height - frame.height for name, frame in train.items())
    else:
        groups = {
            name: _first(frame, min(eval_examples, frame.height // 5), rng_seed) for name, frame in usable.items()
        }
        train = {
            name: frame.filter(~pl.col("content_hash").is_in(groups[name]["content_hash"].implode()))
            for name, frame in usable.items()
        }
        left["held out to measure on"] = sum(usable[name].height - frame.height for name, frame in train.items())
    train = {name: frame for name, frame in train.items() if frame.height}
    groups = {name: frame for name, frame in groups.items() if frame.height}
    if not train:
        raise UsageError("no proxy can be trained: no example of the pools ends with an assistant's answer")
    if not groups:
        raise UsageError(
            "no proxy can be measured: give a target set with answers (recipe: `target`), "
            "or pools of at least five examples, a fifth of which is held out"
        )
    return Lab(train, groups, {reason: n for reason, n in left.items() if n})


@dataclass(frozen=True)
class Run:
    """One proxy run: how many examples of each source it learns from, over how many passes, with which seed.

    ``checkpoints`` says at how many evenly spaced points of the training the losses are measured (the last is the end).
    """

    kind: str
    take: Mapping[str, int]
    rng_seed: int
    epochs: float = 2.0
    checkpoints: int = 1

    @property
    def shares(self) -> dict[str, float]:
        """The mixture as it is after rounding."""
        total = sum(self.take.values())
        return {name: n / total for name, n in self.take.items()}

    def words(self, most: int = 4) -> str:
        """Its largest shares, for a line of progress."""
        top = sorted(self.shares.items(), key=lambda item: -item[1])[:most]
        return " ".join(f"{name} {share:.2f}" for name, share in top if share > 0)


def runs_of(
    kind: str,
    sources: Sequence[str],
    mixtures: np.ndarray,
    seeds: Sequence[int],
    *,
    examples: int,
    epochs: float,
    checkpoints: int = 1,
) -> list[Run]:
    """The queue of mixtures × seeds, mixtures outermost; each mixture of ``examples`` whole examples."""
    takes = [dict(zip(sources, largest_remainder(row.tolist(), examples), strict=True)) for row in mixtures]
    return [Run(kind, take, seed, epochs, checkpoints) for take in takes for seed in seeds]


def question_of(run: Run, lab: Lab) -> dict[str, Any]:
    """What decides a run's result, for ``using.once``: what is learned, in order, and what is measured, by content."""
    return {
        "what": "proxy run",
        "version": RUN_VERSION,
        "learned": _digest(_drawn(run, lab)["content_hash"]),
        "measured": {name: _digest(frame["content_hash"]) for name, frame in lab.measured.items()},
        "rng_seed": run.rng_seed,
        "epochs": run.epochs,
        "checkpoints": run.checkpoints,
    }


def measure(run: Run, lab: Lab, using: Using) -> Mapping[str, Any]:
    """The run's losses: ``{"losses": {group: nats per token or None}, "learning": [loss per step], "steps": {…}}``.

    ``steps`` has the losses of every group at each checkpoint. Made once per store; None = not a finite number.
    """
    return using.once(question_of(run, lab), lambda: _measure(run, lab, using))


def _measure(run: Run, lab: Lab, using: Using) -> dict[str, Any]:
    learned = conversations(_drawn(run, lab))
    session = using.tune.start(run.rng_seed)
    history: list[float] = []
    traces: list[dict[str, float | None]] = []
    for _ in range(run.checkpoints):
        history += session.learn(learned, epochs=run.epochs / run.checkpoints)
        traces.append(group_losses(session, lab))
    return {
        "losses": traces[-1],
        "learning": [round(float(x), 6) if math.isfinite(x) else None for x in history],
        "steps": {name: [trace[name] for trace in traces] for name in lab.groups},
    }


def group_losses(session: Tuning, lab: Lab) -> dict[str, float | None]:
    """Mean negative log-likelihood per answer token of each measured group; None where it is not a finite number."""
    return {name: mean_loss(session.losses(conversations(frame))) for name, frame in lab.measured.items()}


def mean_loss(scored: Sequence[TokenLogprobs]) -> float | None:
    """Nats per token over all tokens; None of no token or of a sum that is not finite."""
    tokens = sum(one.n_tokens for one in scored)
    total = -sum(one.sum_logprob for one in scored)
    return round(total / tokens, 9) if tokens and math.isfinite(total) else None


def draw(lab: Lab, take: Mapping[str, int], rng_seed: int) -> pl.DataFrame:
    """``take`` examples of each source, repeats spelled out, chosen by ``hash(rng_seed, id)``, sources in order."""
    parts = [lab.train[name].head(0) for name in lab.sources[:1]]
    for name, count in take.items():
        if count:
            chosen = choose(lab.train[name]["id"], count, rng_seed)
            rows = lab.train[name].join(chosen, on="id", how="inner", maintain_order="left")
            times = np.repeat(np.arange(rows.height), rows["repeat"].to_numpy())
            parts.append(rows.drop("repeat")[times])
    return pl.concat(parts)


def conversations(frame: pl.DataFrame) -> Conversations:
    """Messages as turns, each ending with the assistant's answer."""
    return [as_turns(said) for said in frame["messages"].to_list()]


def table(runs: Sequence[Run], results: Sequence[Mapping[str, Any]], lab: Lab, weights: np.ndarray) -> pl.DataFrame:
    """One row per run: ``run``, ``kind``, ``rng_seed``, ``examples``, ``w_<source>`` …, ``loss_<group>`` …, ``measured``.

    ``measured`` is the groups' mean under ``weights``; null where a group's loss is not a finite number.
    """
    rows: list[dict[str, Any]] = []
    for number, (run, result) in enumerate(zip(runs, results, strict=True)):
        losses = [result["losses"].get(name) for name in lab.groups]
        known = all(x is not None for x in losses)
        rows.append(
            {"run": number, "kind": run.kind, "rng_seed": run.rng_seed, "examples": sum(run.take.values())}
            | {f"w_{name}": run.shares.get(name, 0.0) for name in lab.sources}
            | {f"loss_{name}": loss for name, loss in zip(lab.groups, losses, strict=True)}
            | {"measured": float(np.array(losses) @ weights) if known else None}
        )
    floats = {f"w_{n}": pl.Float64 for n in lab.sources} | {f"loss_{n}": pl.Float64 for n in lab.groups}
    return pl.DataFrame(rows, schema_overrides={**floats, "measured": pl.Float64}, infer_schema_length=None)


def _drawn(run: Run, lab: Lab) -> pl.DataFrame:
    return draw(lab, run.take, run.rng_seed)


def learnable(frame: pl.DataFrame) -> pl.DataFrame:
    """Examples that ask and answer: a turn before, and an assistant's last turn that says something."""
    said = frame.filter(
        roles_of().str.contains("^.+a$") & (content_at(-1).str.strip_chars() != "") & ~roles_of().str.contains(r"\?")
    )
    columns = ["id", "content_hash", "messages", "source"]
    return said.select([c for c in columns if c in said.columns]).sort("id")


def _first(frame: pl.DataFrame, count: int, rng_seed: int) -> pl.DataFrame:
    """``count`` rows by ``hash(rng_seed, id)``, in the order of their ids."""
    places = by_key(keyed_hashes(frame["id"], rng_seed), frame["id"])[:count]
    return frame[np.sort(places).tolist()]


def _digest(hashes: pl.Series) -> str:
    return hashlib.sha256(b"".join(hashes.to_list())).hexdigest()[:32]
