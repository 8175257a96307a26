"""What the methods may ask of a model: small protocols, lists in and lists out. No engine is imported here."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from schemas.training import TrainedOn

FailureClass = Literal[
    "refused-by-server",  # 400: this row can never succeed (context too long, content policy)
    "rate-limited",
    "server-error",
    "timeout",
    "connection",
    "undecodable",
    "empty",
    "wrong-schema",
    "cut-off",  # finish_reason "length" where the caller asked for a complete reply
    "over-budget",
]


#: What an engine meets: requests, failed ones by class, repairs; waits with their seconds (the server's wish, our own, a limit
#: per minute); a second endpoint asked, the first left alone; a managed server that died, stood still, was restarted.
Met = Literal[
    FailureClass, "request", "repair", "retry-after", "backoff", "limit", "fallback", "breaker", "crash", "stall", "restart"
]  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn. All of it enters the call's identity.

    ``index`` tells repeated samples of one prompt apart; ``seed`` makes an engine that honours it repeatable.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    index: int = 0
    json_schema: str | None = None  # canonical JSON text of a schema the reply must satisfy


@dataclass(frozen=True)
class Request:
    """One call: ``messages`` for a chat, ``prompt`` for a plain continuation (exactly one of them)."""

    messages: tuple[Turn, ...] = ()
    prompt: str | None = None
    sampling: Sampling = Sampling()

    @staticmethod
    def ask(text: str, sampling: Sampling = Sampling()) -> "Request":
        """A chat of one user turn."""
        return Request(messages=(Turn("user", text),), sampling=sampling)


@dataclass(frozen=True)
class Reply:
    """What came back for one request. A failure is a value with a class, never an exception and never a default text.

    ``call`` is the 16-byte key under which the call is stored in the lineage; ``cost_usd`` is None when the price is
    unknown, never 0; ``cached`` says that nothing was paid this time. ``doubtful``: refused by a server that has not
    answered anything yet, so perhaps not for this request's own sake; such a failure is not kept.
    """

    text: str = ""
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "error"] = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None
    attempts: int = 1
    cached: bool = False
    call: bytes = b""
    failure: FailureClass | None = None
    message: str = ""
    model: str = ""  # the name under which a server says that it answered; empty where the engine is its own
    doubtful: bool = field(default=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is a text to work with."""
        return self.failure is None


@dataclass(frozen=True)
class ScoreRequest:
    """A completion to be scored under teacher forcing, given a chat prompt (or nothing, for the unconditional term)."""

    completion: str
    messages: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities (nats) of the completion's tokens, end-of-turn token included.

    ``truncated`` is true when any completion token did not fit the context; the sum is then over those that did.
    ``prompt_tokens`` is how many tokens the engine read before them, 0 where it does not say.
    ``call`` is the 16-byte key under which the scoring is stored in the lineage (empty without the call cache).
    """

    logprobs: tuple[float, ...] = ()
    truncated: bool = False
    failure: FailureClass | None = None
    prompt_tokens: int = field(default=0, compare=False)
    call: bytes = field(default=b"", compare=False)

    @property
    def n_tokens(self) -> int:
        """How many tokens were scored."""
        return len(self.logprobs)

    @property
    def sum_logprob(self) -> float:
        """Sum over the scored tokens, in nats."""
        return float(sum(self.logprobs))


#: Takes a scoring as soon as it is known: its place in the list, and the scoring.
Scored = Callable[[int, TokenLogprobs], None]


class Meter(Protocol):
    """Stands between an engine and the world: asked before a request is sent, told the moment its reply is complete.

    Positions are those of the list handed to ``generate``. Both may be called from any thread and do not raise.
    """

    def admit(self, position: int) -> bool:
        """Whether this request may be sent now (and, after a reply that was billed, again).

        A refusal while others are in flight may turn into an admission when one of them is delivered. With nothing in
        flight it is final: the engine sends no more, and what was not sent comes back as ``over-budget``.
        """
        ...

    def deliver(self, position: int, reply: Reply) -> "Future[None] | None":
        """The reply of this request; called exactly once for each request, sent or not.

        The future, if any, is done when the reply is durable. Until then it counts as in flight: an engine that sends
        many requests at once keeps its place occupied, so that a crash costs no more than what was in flight.
        """
        ...

    def draining(self) -> bool:
        """Whether a stop was asked for: what failed is not sent again."""
        ...


class Troubles(Protocol):
    """Counts what an engine meets while it works; a meter may have one: ``troubles``. Any thread may call it."""

    def met(self, what: Met, times: int = 1, *, seconds: float = 0.0, model: str = "") -> None:
        """So often, for so many seconds in all; ``model`` only where it is not the engine's own (a second endpoint)."""


class Pledges(Protocol):
    """Notes that outlive the process, for work that goes on at a server without us; a meter may have some: ``pledges``.

    What was reserved for a note's requests stays reserved until the note is dropped: a kill loses nothing by it.
    """

    def put(self, name: str, text: str, positions: Sequence[int]) -> None:
        """Write a note, durable when this returns; it holds the reservations of these requests."""

    def notes(self) -> Mapping[str, str]:
        """All notes of this store, by name."""
        ...

    def drop(self, name: str) -> None:
        """The note is done with, and what it still holds is given back."""

    def say(self, done: int, note: str) -> None:
        """Show progress: how many requests are answered, and a word about the rest."""


@runtime_checkable
class LLM(Protocol):
    """A language model behind any engine. Results stand in the order of the requests."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the replies: backend, model name, revision or weights digest. No speed settings, no keys."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply per request. Engines that can take a keyword ``meter: Meter | None = None`` and call it."""
        ...

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """One teacher-forced scoring per request; raises ``BackendError`` where the engine cannot score.

        Engines that can take a keyword ``deliver: Scored | None = None`` and call it with each scoring as it is known.
        """
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens per text (an estimate where the engine has no tokenizer at hand)."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the vectors: backend, model, revision or weights digest."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), dim)."""
        ...


@runtime_checkable
class NLI(Protocol):
    """Does a premise entail a hypothesis? A cross-encoder, or a substitute that says so in its identity."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the probabilities: backend, model, revision or weights digest."""
        ...

    def judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Probabilities of contradiction, neutral and entailment per (premise, hypothesis): float64, (len(pairs), 3)."""
        ...


class Tuning(Protocol):
    """A proxy model while it learns, its weights in memory. Conversations end with the assistant turn that is learned."""

    def learn(
        self,
        conversations: Sequence[Sequence[Turn]],
        *,
        weights: Sequence[float] | None = None,
        epochs: float = 1.0,
        keep_order: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> list[float]:
        """Train on them, only the assistants' tokens counting; the mean loss (nats per token) of each optimizer step.

        ``weights`` multiply the loss of each conversation (mean 1 is usual). The order is a shuffle of the session's
        own generator, or as given. The learning rate follows the config's schedule over this call, or, with ``part``
        ``(i, n)``, over n calls of this length of which this is number i, from 0; the optimizer's state is kept between
        calls.
        """
        ...

    @property
    def mean_rate(self) -> float:
        """Mean learning rate over the optimizer steps of the latest ``learn``; 0 before the first."""
        ...

    def losses(self, conversations: Sequence[Sequence[Turn]]) -> list[TokenLogprobs]:
        """Log-probabilities of the last assistant turn of each, under the weights as they are now."""
        ...

    def gradients(
        self, conversations: Sequence[Sequence[Turn]], *, dim: int, rng_seed: int, adam: bool = False
    ) -> np.ndarray:
        """Gradient of each conversation's mean loss, projected at random with a seed: float32, (n, dim).

        With ``adam`` the direction in which Adam would move, from the optimizer's moments so far. Equal seeds give
        equal projections, so that rows of different calls and sessions can be compared.
        """
        ...

    def spectra(self, conversations: Sequence[Sequence[Turn]]) -> list[Mapping[str, tuple[np.ndarray, ...]]]:
        """Singular values of the gradient of each conversation's mean loss, for the projection matrices of attention.

        By the matrix's name (``q_proj`` …) one descending float64 array per layer; gradients with respect to the model's
        own weights, also where only an adapter is trained. Raises ``BackendError`` for a model without such matrices.
        """
        ...

    def reset(self) -> None:
        """Back to the base model's weights and a fresh optimizer, without loading anything again."""
        ...

    def save(self, folder: Path) -> None:
        """Write safetensors, config, tokenizer and template, as the transformers backend loads them."""
        ...


@runtime_checkable
class Tuner(Protocol):
    """Makes small fine-tuned models: proxies to measure data with, and the correctors of CLEAR and SELF-GUIDE."""

    def identity(self) -> Mapping[str, Any]:
        """The model that is started from (by its weights) and every setting that decides what it learns."""
        ...

    def start(self, rng_seed: int = 0) -> Tuning:
        """A fresh session over the untouched base model."""
        ...

    def tuned(self, conversations: Sequence[Sequence[Turn]], *, rng_seed: int = 0, keep_order: bool = False) -> LLM:
        """The base model fine-tuned on these conversations for the config's epochs, as a language model.

        Equal input gives the same model. Behind ``using.tune`` the weights are kept in the store and the replies in the
        call cache: nothing is trained before the first reply that is not known yet.
        """
        ...

    def untuned(self) -> LLM:
        """The base model itself, to compare with."""
        ...


@dataclass(frozen=True)
class Program:
    """Code written by a model, to be run in the sandbox: Python source, its standard input, and its ceilings."""

    source: str
    stdin: str = ""
    seconds: float = 5.0  # of wall time
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 64 * 2**10


@dataclass(frozen=True)
class Ran:
    """How a program ended. ``exit_code`` is None when it was ended from outside; ``ended_by`` says by which ceiling."""

    exit_code: int | None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    ended_by: Literal["", "time", "memory", "output", "processes", "files", "forbidden"] = ""

    @property
    def ok(self) -> bool:
        """Whether it ran through and said 0."""
        return self.exit_code == 0 and not self.ended_by


@runtime_checkable
class Sandbox(Protocol):
    """Runs generated code without network, without a writable file system outside its own folder, within ceilings."""

    def identity(self) -> Mapping[str, Any]:
        """What decides how a program ends: kind of confinement, Python version, ceilings."""
        ...

    def run(self, programs: Sequence[Program]) -> list[Ran]:
        """One result per program, in order."""
        ...


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left behind."""

    output_dir: Path
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()  # one entry per logged step: step, loss, …
    files: tuple[str, ...] = ()  # safetensors and configs, relative to output_dir


@runtime_checkable
class Trainer(Protocol):
    """Fine-tunes a model on a published dataset."""

    def identity(self) -> Mapping[str, Any]:
        """What decides the trained weights apart from the dataset and the rng_seed."""
        ...

    def train(
        self,
        dataset: Path,
        output_dir: Path,
        *,
        rng_seed: int,
        about: TrainedOn = TrainedOn(),
        progress: Callable[[int, int, str], None] | None = None,
    ) -> TrainingRun:
        """Train on the published Parquet file; ``output_dir`` receives safetensors, tokenizer and card.

        ``about`` says which dataset version that is (for the card); ``progress`` is told (step, steps, note). A run
        that was killed goes on from its last checkpoint when called again with the same config, dataset and seed.
        """
        ...
