"""A triangle of mixtures of three sources as inline SVG: each corner is one source alone, the middle is an equal share."""

from collections.abc import Sequence

from markupsafe import Markup

from storage.questions.simplex import Mark, Measured, Simplex
from storage.questions.words import counted, number
from storage.reports.draw import svg, tag

#: Length of a side and place of the top corner, in pixels.
SIDE, TOP = 260.0, (146.0, 26.0)

#: Corners of the first, second and third source: top, lower left, lower right.
CORNERS = (
    TOP,
    (TOP[0] - SIDE / 2, TOP[1] + SIDE * 0.75**0.5),
    (TOP[0] + SIDE / 2, TOP[1] + SIDE * 0.75**0.5),
)

_WIDTH, _HEIGHT, _LABELS_AT, _LINE = 470.0, 306.0, 312.0, 28.0
_FAINT, _FULL = 0.12, 1.0


def place(shares: Sequence[float]) -> tuple[float, float]:
    """Where a mixture lies: the mean of the corners, weighed by its shares."""
    return (
        sum(share * x for share, (x, _) in zip(shares, CORNERS, strict=True)),
        sum(share * y for share, (_, y) in zip(shares, CORNERS, strict=True)),
    )


def shade(loss: float, losses: Sequence[float]) -> float:
    """How full a dot is: 1 at the least loss of ``losses``, 0.12 at the greatest, in between by the loss."""
    low, high = min(losses), max(losses)
    return _FULL if high == low else _FULL - (loss - low) / (high - low) * (_FULL - _FAINT)


def simplex(one: Simplex) -> Markup:
    """The triangle: a dot for each measured mixture, the fuller the lower its loss, and the named mixtures with labels."""
    corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in CORNERS)
    parts = [tag("desc", " ".join(told(one))), tag("polygon", class_="simplex", points=corners), *_grid(), *_names(one)]
    losses = one.losses
    # The lowest losses are drawn last: what matters is not hidden.
    for run in sorted(one.measured, key=lambda run: float("inf") if run.loss is None else run.loss, reverse=True):
        parts.append(_dot(run, one.sources, losses))
    parts += _marks(one)
    if losses:
        parts += _legend(losses)
    return svg(_WIDTH, _HEIGHT, f"mixtures of {', '.join(map(clean, one.sources))}", *parts)


def told(one: Simplex) -> list[str]:
    """The picture as sentences: for those who cannot see it, and as its caption."""
    runs, failed = sum(run.runs for run in one.measured), sum(run.failed for run in one.measured)
    said = [f"{len(one.measured):,} mixtures, {runs + failed:,} proxy runs."]
    if one.losses:
        best = min((run for run in one.measured if run.loss is not None), key=lambda run: run.loss or 0.0)
        said.append(
            f"Measured losses {number(min(one.losses))} to {number(max(one.losses))} nats, the fuller a dot the lower; "
            f"least at {_words(best.shares, one.sources)}."
        )
    sizes = {run.examples for run in one.measured if run.examples is not None}
    if len(sizes) > 1:
        said.append(
            f"Runs learned from {min(sizes):,} to {max(sizes):,} examples, so a loss is not about shares alone."
        )
    if failed:
        said.append(
            f"{counted(failed, 'run')} ended without a finite loss (open dots where no seed of a mixture has one)."
        )
    if one.more:
        said.append(f"{one.more:,} more mixtures are not drawn.")
    return said + [f"{mark.name.capitalize()}: {_words(mark.shares, one.sources)}." for mark in one.marks]


def clean(name: str, most: int = 18) -> str:
    """A source's name without characters that cannot be seen or that turn the reading order, cut to ``most``."""
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _words(shares: Sequence[float], sources: Sequence[str]) -> str:
    return ", ".join(f"{clean(name)} {100 * share:.1f} %" for name, share in zip(sources, shares, strict=True))


def _grid() -> list[Markup]:
    """Lines of a quarter, a half and three quarters of each source."""
    lines: list[Markup] = []
    for source in range(3):
        for share in (0.25, 0.5, 0.75):
            ends: list[tuple[float, float]] = []
            for other in range(3):
                if other != source:
                    shares = [0.0, 0.0, 0.0]
                    shares[source], shares[other] = share, 1 - share
                    ends.append(place(shares))
            (x1, y1), (x2, y2) = ends
            lines.append(tag("line", class_="grid", x1=x1, y1=y1, x2=x2, y2=y2))
    return lines


def _names(one: Simplex) -> list[Markup]:
    (top_x, top_y), (left_x, left_y), (right_x, right_y) = CORNERS
    return [
        tag("text", tag("title", clean(name, 200)), clean(name), class_="name", x=x, y=y, text_anchor=anchor)
        for name, x, y, anchor in zip(
            one.sources,
            (top_x, left_x - 14, right_x + 14),
            (top_y - 9, left_y + 17, right_y + 17),
            ("middle", "start", "end"),
            strict=True,
        )
    ]


def _dot(run: Measured, sources: Sequence[str], losses: Sequence[float]) -> Markup:
    x, y = place(run.shares)
    seeds = f", mean of {run.runs} runs" if run.runs > 1 else ""
    loss = "no finite loss" if run.loss is None else f"loss {number(run.loss)}{seeds}"
    size = f"; {run.examples:,} examples" if run.examples is not None else ""
    says = tag("title", f"{loss}: {_words(run.shares, sources)}{size}")
    if run.loss is None:
        return tag("circle", says, class_="proxy failed", cx=x, cy=y, r=4)
    return tag("circle", says, class_="proxy", cx=x, cy=y, r=4, fill_opacity=shade(run.loss, losses))


def _marks(one: Simplex) -> list[Markup]:
    """Named mixtures as shapes, their labels in a column beside the triangle, in the order of their heights."""
    at = sorted((place(mark.shares)[1], i) for i, mark in enumerate(one.marks))
    lines, shapes = [], []
    label_y = 0.0
    for wanted, i in at:
        mark = one.marks[i]
        x, y = place(mark.shares)
        label_y = max(wanted, label_y + _LINE)
        shares = " / ".join(f"{100 * share:.0f}" for share in mark.shares)
        lines += [
            tag("line", class_="leader", x1=x, y1=y, x2=_LABELS_AT - 4, y2=label_y),
            tag("text", mark.name, class_="name", x=_LABELS_AT, y=label_y + 2),
            tag("text", f"{shares} %", class_="label", x=_LABELS_AT, y=label_y + 14),
        ]
        shapes.append(_shape(mark, x, y, tag("title", f"{mark.name}: {_words(mark.shares, one.sources)}")))
    return [*lines, *shapes]


def _shape(mark: Mark, x: float, y: float, says: Markup) -> Markup:
    if mark.name == "proposed":
        points = f"{x:.2f},{y - 7:.2f} {x + 7:.2f},{y:.2f} {x:.2f},{y + 7:.2f} {x - 7:.2f},{y:.2f}"
        return tag("polygon", says, class_="mark full", points=points)
    if mark.name == "uniform":
        return tag("circle", says, class_="mark", cx=x, cy=y, r=9)  # a ring: also around the proposal
    if mark.name == "proportional":
        return tag("rect", says, class_="mark", x=x - 5, y=y - 5, width=10, height=10)
    points = f"{x:.2f},{y - 6:.2f} {x + 6:.2f},{y + 5:.2f} {x - 6:.2f},{y + 5:.2f}"
    return tag("polygon", says, class_="mark", points=points)


def _legend(losses: Sequence[float]) -> list[Markup]:
    low, high, y = min(losses), max(losses), _HEIGHT - 8
    if low == high:
        return [tag("text", f"every loss {number(low)}", class_="label", x=TOP[0], y=y, text_anchor="middle")]
    left = TOP[0] - 40
    shown = [tag("text", f"loss {number(low)}", class_="label", x=left - 10, y=y, text_anchor="end")]
    for i in range(5):
        loss = low + (high - low) * i / 4
        fill = shade(loss, losses)
        shown.append(tag("circle", class_="proxy", cx=left + 20 * i, cy=y - 4, r=4, fill_opacity=fill))
    return [*shown, tag("text", number(high), class_="label", x=left + 90, y=y)]
