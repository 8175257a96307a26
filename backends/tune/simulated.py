"""A tuner without a model: skills that help each other by a known matrix, for tests, for teaching, and to plan a queue."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from backends.base import BackendConfig
from backends.protocols import LLM, Meter, Reply, Request, ScoreRequest, TokenLogprobs, Turn
from schemas.errors import BackendError


class SimulatedTuner(BackendConfig):
    """Each skill has one loss; learning a conversation of skill i takes ``rate * affinity[i][j] / batch_size`` of skill
    j's loss above its floor.

    A batch with shares p thus does ``L_j <- floor_j + (L_j - floor_j) * (1 - rate * (A^T p)_j)``, which over many batches
    is the log-linear law of the shares: every mixture method has a known optimum here. A conversation belongs to the
    first skill whose marker stands in its text, or, where none does, to one chosen by a hash of the text. Knows nothing
    of language: a fake, and named so in every identity.
    """

    billed: ClassVar[bool] = False

    backend: Literal["simulated"] = "simulated"
    skills: tuple[str, ...] = Field(("one", "two"), min_length=1, description="a marker per skill, looked for in texts")
    affinity: tuple[tuple[float, ...], ...] | None = Field(
        None, description="how much learning skill i (row) lowers the loss of skill j (column); identity by default"
    )
    start_loss: tuple[float, ...] = Field((3.0,), description="per skill before training, or one for all")
    floor: tuple[float, ...] = Field((1.0,), description="per skill, what no training gets below, or one for all")
    rate: float = Field(0.05, gt=0, le=1, description="share of the loss above the floor that a pure batch takes away")
    noise: float = Field(0.0, ge=0, description="standard deviation of a session's losses, drawn by its seed and skill")
    epochs: float = Field(1.0, gt=0, description="passes over the conversations")
    batch_size: int = Field(16, ge=1, description="conversations per step")

    @model_validator(mode="after")
    def _fits(self) -> "SimulatedTuner":
        count = len(self.skills)
        if self.affinity is not None and [len(row) for row in self.affinity] != [count] * count:
            raise ValueError(f"affinity is {count} rows of {count} numbers, one per skill")
        for name in ("start_loss", "floor"):
            if len(getattr(self, name)) not in (1, count):
                raise ValueError(f"{name} has one number, or one per skill ({count})")
        return self

    def open(self) -> "SimulatedEngine":
        """Needs nothing."""
        return SimulatedEngine(self)

    def matrix(self) -> np.ndarray:
        """The affinity, float64, (skills, skills)."""
        return np.eye(len(self.skills)) if self.affinity is None else np.array(self.affinity, dtype=np.float64)

    def skill_of(self, conversation: Sequence[Turn]) -> int:
        """Which skill a conversation teaches or asks for."""
        text = "\n".join(turn.content for turn in conversation)
        for number, marker in enumerate(self.skills):
            if marker in text:
                return number
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") % len(self.skills)


class SimulatedEngine:
    """See ``backends.protocols.Tuner``."""

    def __init__(self, config: SimulatedTuner) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's."""
        return self.config.identity()

    def start(self, rng_seed: int = 0) -> "SimulatedTuning":
        """A fresh session."""
        return SimulatedTuning(self.config, rng_seed)

    def train_into(
        self, folder: Path, conversations: Sequence[Sequence[Turn]], *, rng_seed: int, keep_order: bool
    ) -> None:
        """Learn for the config's epochs and write the losses."""
        session = self.start(rng_seed)
        session.learn(conversations, epochs=self.config.epochs, keep_order=keep_order)
        session.save(folder)

    def load(self, folder: Path) -> LLM:
        """The losses that ``train_into`` left."""
        return SimulatedModel(self.config, np.array(json.loads((folder / "config.json").read_text())["losses"]))

    def base(self) -> LLM:
        """The losses before any training."""
        return SimulatedModel(self.config, self.start().level)

    def tuned(self, conversations: Sequence[Sequence[Turn]], *, rng_seed: int = 0, keep_order: bool = False) -> LLM:
        """The skills after learning these conversations for the config's epochs."""
        session = self.start(rng_seed)
        session.learn(conversations, epochs=self.config.epochs, keep_order=keep_order)
        return SimulatedModel(self.config, session.level)

    def untuned(self) -> LLM:
        """The skills before any training."""
        return self.base()


class SimulatedTuning:
    """See ``backends.protocols.Tuning``. ``level`` is the loss of each skill, (skills,)."""

    def __init__(self, config: SimulatedTuner, rng_seed: int) -> None:
        self.config = config
        count = len(config.skills)
        self.level = np.broadcast_to(np.array(config.start_loss, dtype=np.float64), (count,)).copy()
        self._floor = np.broadcast_to(np.array(config.floor, dtype=np.float64), (count,))
        self._error = np.random.default_rng([rng_seed, 7]).standard_normal(count) * config.noise
        self._rng_seed = rng_seed
        self._rng = np.random.default_rng(rng_seed)
        self._start = self.level.copy()
        self.mean_rate = 0.0

    def learn(
        self,
        conversations: Sequence[Sequence[Turn]],
        *,
        weights: Sequence[float] | None = None,
        epochs: float = 1.0,
        keep_order: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> list[float]:
        """Batch by batch; the mean loss of each batch before it was learned."""
        if not conversations:
            raise BackendError("there is nothing to learn: 0 conversations were given to the tuner")
        skill = np.array([self.config.skill_of(c) for c in conversations])
        scale = np.ones(len(skill)) if weights is None else np.asarray(weights, dtype=np.float64)
        matrix, size = self.config.matrix(), self.config.batch_size
        left, history = ceil(len(skill) * epochs), list[float]()
        self.mean_rate = self.config.rate
        while left > 0:
            order = np.arange(len(skill)) if keep_order else self._rng.permutation(len(skill))
            order = order[:left]
            left -= len(order)
            for start in range(0, len(order), size):
                batch = order[start : start + size]
                history.append(float(self.level[skill[batch]].mean()))
                share = np.bincount(skill[batch], weights=scale[batch], minlength=len(matrix)) / size
                kept = np.clip(1 - self.config.rate * (matrix.T @ share), 0.0, None)
                self.level = self._floor + (self.level - self._floor) * kept
        return history

    def losses(self, conversations: Sequence[Sequence[Turn]]) -> list[TokenLogprobs]:
        """One token per word of the answer, each of its skill's loss plus the session's error."""
        return [_scored(self.config, self.level + self._error, c) for c in conversations]

    def gradients(
        self, conversations: Sequence[Sequence[Turn]], *, dim: int, rng_seed: int, adam: bool = False
    ) -> np.ndarray:
        """The direction in which a conversation's skill pushes all losses, projected at random."""
        basis = np.random.default_rng(rng_seed).standard_normal((len(self.config.skills), dim)) / np.sqrt(dim)
        pushes = self.config.matrix() * (self.level - self._floor)
        return (pushes[[self.config.skill_of(c) for c in conversations]] @ basis).astype(np.float32)

    def spectra(self, conversations: Sequence[Sequence[Turn]]) -> list[Mapping[str, tuple[np.ndarray, ...]]]:
        """One layer of one matrix ``skills``: how much a conversation pushes each loss, the largest first."""
        pushes = np.abs(self.config.matrix() * (self.level - self._floor))
        return [{"skills": (np.sort(pushes[self.config.skill_of(c)])[::-1],)} for c in conversations]

    def reset(self) -> None:
        """The losses as they were before any learning."""
        self.level, self._rng, self.mean_rate = self._start.copy(), np.random.default_rng(self._rng_seed), 0.0

    def save(self, folder: Path) -> None:
        """The losses as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"backend": "simulated", "losses": self.level.tolist()}))


class SimulatedModel:
    """Scores answers by their skill's loss; writes nothing."""

    def __init__(self, config: SimulatedTuner, level: np.ndarray) -> None:
        self.config = config
        self.level = level

    def identity(self) -> Mapping[str, Any]:
        """The tuner's, with the losses."""
        return {**self.config.identity(), "losses": self.level.tolist()}

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """Raises ``BackendError``: there is no model that could write."""
        raise BackendError("the simulated tuner's models only score; `backends: {tune: {backend: torch}}` can write")

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """One token per word."""
        return [_scored(self.config, self.level, (*r.messages, Turn("assistant", r.completion))) for r in requests]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Words."""
        return [len(text.split()) for text in texts]


def _scored(config: SimulatedTuner, level: np.ndarray, conversation: Sequence[Turn]) -> TokenLogprobs:
    loss = float(level[config.skill_of(conversation)])
    return TokenLogprobs((-loss,) * max(1, len(conversation[-1].content.split())))
