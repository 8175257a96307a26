"""A method is a frozen config that can run: one file, one class, one verb."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from backends.protocols import LLM, NLI, Embedder, Sandbox, Tuner
from schemas.examples import EXAMPLES
from schemas.lineage import Rule


class Progress(Protocol):
    """How long work reports itself: ``advance(done, total, note)``; called from any thread, never raises."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell that ``done`` of ``total`` are through."""
        ...


def silent(done: int, total: int, note: str = "") -> None:
    """Progress that nobody watches."""


class Once(Protocol):
    """Durable results of expensive measurements (proxy runs), so that a killed step goes on where it was."""

    def __call__(self, what: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What ``make`` gave for this ``what`` the first time, in this run or an earlier one; both are JSON values.

        ``what`` must name everything that decides the result (ids or content hashes, settings, engines' identities).
        """
        ...


def unremembered(what: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Every time anew."""
    return make()


@dataclass(frozen=True)
class Using:
    """The engines a method may call; the ones it did not name in ``needs`` are absent and raise when touched.

    ``once`` remembers measurements durably; every method may use it.
    """

    _llm: LLM | None = None
    _embed: Embedder | None = None
    progress: Progress = silent
    _judge: LLM | None = None
    _student: LLM | None = None
    _nli: NLI | None = None
    _tune: Tuner | None = None
    _sandbox: Sandbox | None = None
    once: Once = unremembered

    @property
    def llm(self) -> LLM:
        """The language model that writes (the teacher); the method must name ``llm`` in ``needs``."""
        assert self._llm is not None, "a method that calls the language model names 'llm' in `needs`"
        return self._llm

    @property
    def embed(self) -> Embedder:
        """The embedder; the method must name ``embed`` in ``needs``."""
        assert self._embed is not None, "a method that embeds names 'embed' in `needs`"
        return self._embed

    @property
    def judge(self) -> LLM:
        """The language model that judges; the recipe's ``llm`` where it names no other."""
        assert self._judge is not None, "a method that asks a judge names 'judge' in `needs`"
        return self._judge

    @property
    def student(self) -> LLM:
        """The model that is to be trained on the result, to score under; the recipe's ``llm`` where it names no other."""
        assert self._student is not None, "a method that scores under the target model names 'student' in `needs`"
        return self._student

    @property
    def nli(self) -> NLI:
        """Entailment between two texts."""
        assert self._nli is not None, "a method that asks for entailment names 'nli' in `needs`"
        return self._nli

    @property
    def tune(self) -> Tuner:
        """Makes small fine-tuned models."""
        assert self._tune is not None, "a method that fine-tunes a proxy names 'tune' in `needs`"
        return self._tune

    @property
    def sandbox(self) -> Sandbox:
        """Runs generated code, and nothing else does."""
        assert self._sandbox is not None, "a method that runs generated code names 'sandbox' in `needs`"
        return self._sandbox


@dataclass(frozen=True)
class Expected:
    """What a step is expected to ask of the language model, at most; tokens are those of prompts and replies."""

    calls: int = 0
    tokens: int = 0


#: Tokens per word of ordinary text, for expectations before anything is tokenized.
TOKENS_PER_WORD = 1.4

#: A column that a pool has where a method `reads` it: estimated tokens of the example (Int64), counted as it is read.
TOKENS = "tokens"


class Method(BaseModel):
    """Base of all methods. Every field decides the output and enters the fingerprint.

    ``version`` rises when equal fields start to give different rows; ``needs`` names the backends whose identity counts;
    ``per_example`` says that shards of a pool may be judged apart with the same result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: ClassVar[str]
    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()
    per_example: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The tag, as in ``method: exact``."""
        return str(getattr(self, "method"))  # noqa: B009  (declared by each subclass as a Literal)

    def identity(self) -> dict[str, Any]:
        """Stage, tag, version and every field: what decides the output apart from inputs, backends and rng_seed."""
        return {"stage": self.stage, "version": self.version, **self.model_dump(mode="json")}

    def reads(self) -> tuple[str, ...]:
        """Columns of its pool that it looks at, with these settings; all of EXAMPLES where it says nothing else.

        A step gives a method these, ``id`` and ``source``, and reads no others: one that looks at no text never has the
        texts in memory. `TOKENS` may be among them.
        """
        return tuple(EXAMPLES)

    def expected_calls(self, rows: int, words: float) -> Expected:
        """LLM calls over a pool of ``rows`` examples of ``words`` words each; a method that names ``llm`` says its own."""
        return Expected()


@dataclass(frozen=True)
class Generated:
    """What a generating method made: accepted (CREATED columns) and refused candidates (REFUSED columns)."""

    examples: pl.DataFrame
    refused: pl.DataFrame
    notes: Mapping[str, Any] = field(default_factory=dict)  # counts and statistics for the manifest's summary


class GenerateMethod(Method):
    """Writes new examples from seed examples."""

    stage: ClassVar[str] = "generate"

    @abstractmethod
    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """New examples made from ``seeds`` (EXAMPLES columns)."""


class JudgeMethod(Method):
    """Gives each example of a pool one fate."""

    def rules(self) -> Sequence[Rule]:
        """Every reason this method may give, with thresholds."""
        return ()

    @abstractmethod
    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """VERDICTS for ``pool`` (EXAMPLES columns): exactly one row per example."""

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """``rules`` after judging, for thresholds that depend on the pool (a quantile); defaults to ``rules()``.

        A ``per_example`` method has none that do.
        """
        return self.rules()

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """Tables for the step's page, by title: label to number, or label to such a table; JSON values only.

        Those of a ``per_example`` method are counts: the tables of two parts of a pool add up to that of the whole.
        """
        return {}


class FilterMethod(JudgeMethod):
    """Decides on each example alone."""

    stage: ClassVar[str] = "filter"


class DedupMethod(JudgeMethod):
    """Drops examples that repeat another; evidence names the one that stays: ``{"repeats": hex id, "similarity": x}``."""

    stage: ClassVar[str] = "dedup"


class DecontaminateMethod(Method):
    """Drops examples that give a benchmark away; evidence names benchmark, item and matched spans."""

    stage: ClassVar[str] = "decontaminate"
    rules = JudgeMethod.rules

    @abstractmethod
    def judge(
        self, pool: pl.DataFrame, benchmarks: Mapping[str, pl.DataFrame], *, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """VERDICTS for ``pool``; ``benchmarks`` maps a name to its items (``item``, ``prompt``, ``answer`` columns)."""

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """See ``JudgeMethod.settled_rules``."""
        return self.rules()


class RankMethod(Method):
    """Scores a pool, higher is better; cutting it is another step, so that a new budget reuses the ranking."""

    stage: ClassVar[str] = "rank"

    @abstractmethod
    def rank(
        self, pool: pl.DataFrame, *, target: pl.DataFrame | None, using: Using, rng: np.random.Generator
    ) -> pl.DataFrame:
        """SCORES for ``pool``: every id once, ``score`` finite or null (null = cannot be scored, ranks last)."""


class SelectMethod(Method):
    """Cuts a pool to a budget: by a ranking, or, with ``ranked`` false, by looking at the set itself (coverage)."""

    stage: ClassVar[str] = "select"
    ranked: ClassVar[bool] = True

    @abstractmethod
    def cut(self, pool: pl.DataFrame, ranking: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """VERDICTS for ``pool``, given its SCORES (all null where there is no ranking); ties are broken by id."""

    def rules(self) -> Sequence[Rule]:
        """See ``JudgeMethod.rules``."""
        return ()

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """See ``JudgeMethod.settled_rules``."""
        return self.rules()


@dataclass(frozen=True)
class Stretch:
    """A part of a curriculum: so many examples of one pool. Turns (passes) come in order, stages in order within a turn."""

    pool: str
    examples: int
    turn: int
    stage: int


@dataclass(frozen=True)
class Blend:
    """A mixture: weight per pool (sums to 1) and how many examples each pool gives, repeats included.

    With ``stages`` the mixture is a curriculum: the examples of pools of a lower stage come before all others. With a
    ``course`` it has several passes, whose parts add up to ``take``.
    """

    weights: Mapping[str, float]
    take: Mapping[str, int]
    notes: Mapping[str, Any] = field(default_factory=dict)
    runs: pl.DataFrame | None = None  # one row per proxy run: w_<pool> …, rng_seed, loss_<target group> …; a sidecar
    stages: Mapping[str, int] | None = None
    course: Sequence[Stretch] = ()


class MixMethod(Method):
    """Finds how much of each pool goes in.

    ``aims`` says that it measures on the recipe's target set; the step's identity then has that set among its inputs.
    """

    stage: ClassVar[str] = "mix"
    aims: ClassVar[bool] = False

    @abstractmethod
    def weigh(
        self,
        pools: Mapping[str, pl.DataFrame],
        *,
        using: Using,
        rng: np.random.Generator,
        target: pl.DataFrame | None = None,
    ) -> Blend:
        """Weights and counts for named pools (EXAMPLES columns); ``target`` is given to methods that aim."""
