"""Losses of training rows in a terminal: of a version as two lines of blocks and a table, of an example as one line."""

from collections.abc import Sequence

from cli.plain import line, table
from storage.questions.loss_views import ExampleLoss, RowLosses
from storage.questions.words import number

_BLOCKS = " ▁▂▃▄▅▆▇█"
#: Rows of the table of the highest losses.
SHOWN = 5


def version_losses(found: RowLosses) -> str:
    """What training did to the rows of a version: means, the two distributions, the rows that it learned least."""
    told = [f"losses of training rows under {found.model} ({line(found.base or 'model unknown')}): {found.ref}"]
    told.append(f"  {found.says}")
    told.append(f"  mean over tokens {_figure(found.after)}, before {_figure(found.before)} nats per token")
    most = max([*found.counts_before, *found.counts_after, 1])
    for name, counts in (("before", found.counts_before), ("after", found.counts_after)):
        if counts:
            told.append(f"  {name:<7}0 {_line_of(counts, most)} {number(found.edges[-1], 3)}")
    if found.worst:
        rows = [
            (
                one.id[:12],
                number(one.after, 3),
                number(one.before, 3),
                f"{one.change:+.3f}",
                one.tokens,
                line(one.prompt),
            )
            for one in found.worst[:SHOWN]
        ]
        head = ("id", "after", "before", "change", "tokens", "begins")
        told += ["  highest after training:", table(head, rows, (1, 2, 3, 4), whole=(0,))]
    return "\n".join(told)


def example_losses(losses: Sequence[ExampleLoss]) -> list[str]:
    """One line for each training that the example was in and whose losses were measured."""
    return [f"loss in training {one.model}: {_of_example(one)}" for one in losses]


def _of_example(one: ExampleLoss) -> str:
    if not one.asked:
        return f"not measured: only {one.scored:,} of {one.rows:,} examples were drawn"
    if one.after is None or one.before is None or one.change is None:
        return "could not be scored"
    told = f"{number(one.after)} nats per token, {number(one.before)} before ({one.change:+.4f})"
    told += f"; {_place(one)} of {one.scored:,}; {one.tokens:,} answer tokens"
    return told + (", cut to the model's context" if one.truncated else "")


def _place(one: ExampleLoss) -> str:
    return "the highest" if one.place == 1 else f"number {one.place:,} from the highest"


def _line_of(counts: Sequence[int], most: int) -> str:
    return "".join(_BLOCKS[max(1, round(count / most * 8)) if count else 0] for count in counts)


def _figure(value: float | None) -> str:
    return number(value) if value is not None else "unknown"
