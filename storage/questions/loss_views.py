"""What a training did to single rows, as values: one example's loss, and the losses of a version."""

from collections.abc import Mapping

from storage.questions.view import View


class ExampleLoss(View):
    """What a training did to one example's loss (nats per token of its answers). ``asked`` False: it was not measured."""

    ref: str  # the step that measured
    model: str  # the step that trained
    base: str | None  # the model that was tuned, by name
    dataset: str
    asked: bool
    before: float | None
    after: float | None
    change: float | None
    tokens: int
    truncated: bool  # only what fitted the model's context was scored
    place: int | None  # 1 = the highest loss after training
    scored: int  # examples with a loss
    rows: int  # distinct examples of the version


class LossRow(View):
    """An example of a version with its loss before and after training on that version."""

    id: str
    position: int
    source: str
    prompt: str
    answer: str
    before: float
    after: float
    change: float
    tokens: int


class RowLosses(View):
    """Losses of the rows a model was trained on (nats per token), before and after; ``says`` tells how many were drawn."""

    ref: str  # the step that measured; its members are the version's
    model: str  # the step that trained
    base: str | None
    dataset: str
    examples: int  # distinct examples of the version
    asked: int
    scored: int
    unscored: Mapping[str, int]  # failure class → examples
    truncated: int
    before: float | None  # mean over tokens of the scored ones
    after: float | None
    fell: int
    rose: int
    edges: tuple[float, ...]  # of the bars, from 0
    counts_before: tuple[int, ...]
    counts_after: tuple[int, ...]
    worst: tuple[LossRow, ...]  # highest loss after training first
    says: str
