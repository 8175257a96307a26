"""What a person can ask a store, as values: pages of the browser, their ``.json`` twins and the terminal show these.

Ids are hex, refs are ``stage@fingerprint``. A figure nobody knows is ``None`` (shown as "unknown"), never 0.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from schemas.lineage import GateStatus
from storage.questions.loss_views import ExampleLoss, RowLosses
from storage.questions.view import View

Json = Mapping[str, Any]
Outcome = Literal["kept", "dropped", "edited", "quarantined", "read"]


# ---- pieces that several answers share


class TurnView(View):
    """One message of a conversation."""

    role: str
    content: str
    extra: str | None = None


class ExampleView(View):
    """An example as a person reads it, and where it is kept."""

    id: str
    content_hash: str
    home: str  # ref of the version that created it
    row: int  # row in that version's examples part
    source: str
    license: str | None
    synthetic_depth: int
    messages: tuple[TurnView, ...]
    tools: str | None = None
    worse: tuple[TurnView, ...] = ()
    extra: str | None = None


class StepView(View):
    """A step in words."""

    ref: str
    stage: str
    method: str  # the method's tag
    says: str  # "clear (keep_fraction 0.5)"
    inputs: tuple[tuple[str, str], ...] = ()  # role, ref


class Verdict(View):
    """One fate and what explains it. ``margin`` is how far the score lies on the kept side of the threshold."""

    fate: Literal["keep", "reject", "edit", "quarantine"]
    rule: str | None = None
    says: str = ""
    score: float | None = None
    threshold: float | None = None
    direction: str = "none"
    margin: float | None = None
    evidence: str | None = None  # JSON as the method wrote it


class Money(View):
    """What calls cost. ``usd`` is None unless every call has a price; ``known_usd`` sums those that have one."""

    calls: int = 0
    cached_calls: int = 0
    scorings: int = 0  # of the calls: probabilities of a given text, nothing written
    unpriced_calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    known_usd: float | None = None


class Damage(View):
    """A part of an answer that could not be read; the rest of the answer stands."""

    place: str
    problem: str


# ---- trace


class CallView(View):
    """One LLM call as it was made: the exact request and the exact reply; a scoring (``score``) has neither."""

    key: str
    kind: str = "generate"
    model: str
    request: Json
    reply: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    attempts: int
    cached: bool
    failure: str | None


class RefusedView(View):
    """A candidate (or outside row) that never became an example, and why."""

    text: str
    reason: str
    evidence: str | None = None
    line: int | None = None


class Relative(View):
    """An example at the other end of a link. ``steps`` counts links from the traced example."""

    id: str
    home: str
    row: int
    source: str
    preview: str
    steps: int
    of: tuple[str, ...]  # ids one link nearer to the traced example
    how: str  # "ingested" | "generated" | "edited"


class Creation(View):
    """Where an example began."""

    how: Literal["ingested", "generated", "edited"]
    step: StepView
    source: str
    line: int | None = None
    file: str | None = None  # where it was read, before any edit: the path that the recipe named
    digest: str | None = None  # SHA-256 of that file's content
    number: int | None = None  # the how-many-th example of its source, from 1
    parents: tuple[Relative, ...] = ()
    calls: tuple[CallView, ...] = ()
    evidence: str | None = None
    siblings: tuple[Relative, ...] = ()  # examples from the same calls
    refused: tuple[RefusedView, ...] = ()  # candidates from the same calls that were refused


class Hop(View):
    """What one step did with the example."""

    step: StepView
    role: str
    kind: Literal["judged", "ranked", "read", "carried"]
    position: int  # in the input, from 0
    of: int  # rows of the input
    occurrences: int = 1  # how often the input holds it
    verdict: Verdict | None = None
    scores: Mapping[str, float | None] = Field(default_factory=dict)
    rank: int | None = None  # 1 = best of a ranking
    successor: str | None = None  # id of the edited example
    made: int = 0  # examples this step made from it
    sentence: str


class Edit(View):
    """A rewrite: the conversation before and after."""

    step: StepView
    old_id: str
    new_id: str
    old: tuple[TurnView, ...]
    new: tuple[TurnView, ...]
    reason: str = ""


class Occurrence(View):
    """Where a published version holds the example."""

    tag: str  # name@vN
    ref: str
    positions: tuple[int, ...]  # at most ten, from 0
    count: int
    rows: int


class Trace(View):
    """Why an example is in or out. ``sentence`` is the answer; everything else is its evidence."""

    sentence: str
    outcome: Outcome
    within: str | None
    tag: str | None
    example: ExampleView
    creation: Creation
    hops: tuple[Hop, ...]
    edits: tuple[Edit, ...] = ()
    ancestors: tuple[Relative, ...] = ()
    more_ancestors: int = 0
    descendants: tuple[Relative, ...] = ()
    more_descendants: int = 0
    occurrences: tuple[Occurrence, ...] = ()
    also_in: tuple[str, ...] = ()  # other tags whose lineage holds its home
    trained: tuple[StepView, ...] = ()  # fine-tuning steps that read a version with it
    losses: tuple[ExampleLoss, ...] = ()  # what those did to its loss


# ---- a version


class ReasonCount(View):
    """How many rows one rule did not keep."""

    ref: str
    stage: str
    rule: str
    says: str
    rows: int
    share_fraction: float | None
    threshold: float | None = None
    direction: str = "none"


class FunnelRow(View):
    """One step of the way: rows in, what left and why, rows out."""

    step: StepView
    rows_in: int  # over consumed inputs; 0 for a source
    kept: int
    rejected: int
    edited: int
    quarantined: int
    created: int
    refused: int
    repeats: int
    rows_out: int
    read: tuple[tuple[str, str, int], ...] = ()  # side inputs: role, ref, rows
    reasons: tuple[ReasonCount, ...] = ()
    refusals: tuple[tuple[str, int], ...] = ()  # refused outside rows or candidates by reason
    seconds: float | None = None
    money: Money | None = None


class Histogram(View):
    """Scores of one step: ``edges`` has one more entry than each count."""

    ref: str
    stage: str
    method: str
    name: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    judged: bool = True  # False: a ranking, which keeps and drops nothing
    missing: int = 0  # rows without a score
    rules: tuple[tuple[str, float, str], ...] = ()  # rule, threshold, direction: the lines to draw
    mean: float | None = None
    median: float | None = None


class Composition(View):
    """Rows of one source, licence and synthetic depth."""

    source: str
    license: str | None
    synthetic_depth: int
    rows: int


class Contamination(View):
    """Hits of one benchmark in one step."""

    ref: str
    benchmark: str
    rows_checked: int
    hits: int
    dropped: int
    edited: int
    kept: int


class MixtureRow(View):
    """One pool of a mixture: what was asked and what came out."""

    ref: str
    pool: str
    weight_fraction: float | None  # as the method weighed it
    weight_interval: tuple[float, float] | None = None  # 95 % of that weight, where the method knows one
    available: int
    examples: int | None  # distinct
    rows: int | None  # with repeats
    share_fraction: float | None


class ModelUse(View):
    """A model and what it was asked."""

    ref: str
    stage: str
    model: str
    money: Money


class PromptUse(View):
    """A prompt text that is part of a method's identity."""

    ref: str
    stage: str
    field: str
    text: str


class Metric(View):
    """A figure of a training or an evaluation, with a 95 % interval where one was worked out.

    ``before`` is the untuned model on the same examples, ``change`` the difference with its paired interval.
    """

    name: str
    slice: str = "all"
    examples: int | None = None
    value: float | None
    low: float | None = None
    high: float | None = None
    before: float | None = None
    before_low: float | None = None
    before_high: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None


class Training(View):
    """A fine-tuning run or an evaluation downstream of a version."""

    step: StepView
    kind: Literal["finetune", "evaluate"]
    model: str | None
    metrics: tuple[Metric, ...]
    history: tuple[Mapping[str, float], ...] = ()
    seconds: float | None = None
    output: str | None = None
    notes: tuple[str, ...] = ()  # what a reader of the figures must know: how a judge behaved, versions of tasks
    gate: str = ""  # of a training whose gate a person opened: what did not pass and the reason they wrote


class Check(View):
    """One gate before training."""

    name: str
    status: str  # passed, failed, unchecked, overridden
    says: str


class TagView(View):
    """A name for a version."""

    name: str
    number: int
    ref: str
    created_at: str
    note: str = ""
    run_id: str | None = None


class VersionPage(View):
    """Everything a person asks of a version."""

    ref: str
    headline: str
    tags: tuple[TagView, ...]
    step: StepView
    rows: int
    words: int | None  # of prompts and answers together
    digest: str
    size_bytes: int
    created_at: str | None
    nondeterministic: bool
    gate: GateStatus
    checks: tuple[Check, ...]
    funnel: tuple[FunnelRow, ...]
    reasons: tuple[ReasonCount, ...]
    histograms: tuple[Histogram, ...]
    composition: tuple[Composition, ...]
    contamination: tuple[Contamination, ...]
    mixture: tuple[MixtureRow, ...]
    models: tuple[ModelUse, ...]
    prompts: tuple[PromptUse, ...]
    money: Money
    seconds: float | None
    training: tuple[Training, ...]
    losses: tuple[RowLosses, ...] = ()
    upstream: tuple[StepView, ...]
    downstream: tuple[StepView, ...]
    recipe: Json | None
    reproduce: str
    run: Json
    damage: tuple[Damage, ...] = ()
