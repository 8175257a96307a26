"""Pictures as inline SVG: bars, histograms with their threshold, curves, intervals.

Every number becomes an attribute and every word an escaped text node; colours come from classes, so that one style sheet
serves light, dark and print, and a strict content security policy (no inline style) holds.
"""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape

from storage.questions.views import FunnelRow, Histogram, Metric, Verdict
from storage.questions.words import number


def tag(name: str, *inside: str | Markup, **attributes: object) -> Markup:
    """One SVG element. ``_`` in attribute names stands for ``-``, a trailing one is dropped; None leaves one out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    body = "".join(str(escape(part)) for part in inside)
    return Markup(f"<{name}{told}>{body}</{name}>" if body else f"<{name}{told}/>")


def _plain(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def svg(width: float, height: float, label: str, *inside: Markup, class_: str = "plot") -> Markup:
    """A picture with a title that screen readers say."""
    return tag(
        "svg",
        tag("title", label),
        *inside,
        class_=class_,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
    )


def funnel_bar(row: FunnelRow, most: int, width: float = 300, height: float = 14) -> Markup:
    """What happened to a step's rows as one bar: kept, edited, created, then dropped; ``most`` rows fill the width."""
    unit = width / max(most, 1)
    parts: list[Markup] = []
    at = 0.0
    for class_, rows in (
        ("kept", row.kept or (row.rows_out - row.created - row.edited - row.repeats if not row.rows_in else 0)),
        ("edited", row.edited),
        ("created", row.created),
        ("repeats", row.repeats),
        ("dropped", row.rejected + row.quarantined),
        ("refused", row.refused),
    ):
        if rows > 0:
            span = max(rows * unit, 1.5)
            parts.append(
                tag(
                    "rect",
                    tag("title", f"{class_}: {rows:,}"),
                    class_=f"bar {class_}",
                    x=at,
                    y=0,
                    width=span,
                    height=height,
                )
            )
            at += span
    return svg(max(width, at), height, f"{row.step.stage} {row.step.method}", *parts, class_="bar-row")


def share_bar(
    fraction: float | None,
    asked: float | None = None,
    interval: tuple[float, float] | None = None,
    width: float = 160,
    height: float = 10,
) -> Markup:
    """A share of the whole; a tick shows what was asked for, a whisker with ends its interval of 95 %."""
    parts = [tag("rect", class_="track", x=0, y=0, width=width, height=height)]
    label = "share"
    if fraction is not None:
        parts.append(tag("rect", class_="bar kept", x=0, y=0, width=max(width * min(fraction, 1), 1), height=height))
    if asked is not None:
        x = width * min(asked, 1)
        parts.append(tag("line", tag("title", f"asked {asked:.1%}"), class_="tick", x1=x, x2=x, y1=-2, y2=height + 2))
    if interval is not None:
        says = f"95 % interval of the weight: {interval[0]:.1%} to {interval[1]:.1%}"
        label = f"share; {says}"
        low, high = (width * min(max(bound, 0.0), 1.0) for bound in interval)
        y, cap = height / 2, height / 4
        d = f"M{low:.2f} {y - cap:g}V{y + cap:g}M{low:.2f} {y:g}H{high:.2f}M{high:.2f} {y - cap:g}V{y + cap:g}"
        parts += [tag("path", class_="bounds under", d=d), tag("path", tag("title", says), class_="bounds", d=d)]
    return svg(width, height, label, *parts, class_="bar-row")


def histogram(
    one: Histogram,
    width: float = 320,
    height: float = 128,
    href: Callable[[Histogram, int, str], str | None] | None = None,
    moved: Sequence[float] = (),
) -> Markup:
    """Stacked bars of kept (below) and dropped rows, with a line at each threshold.

    ``href(histogram, bar, fate)`` gives the address of the rows behind a bar, or None; ``moved`` draws where thresholds would be.
    """
    left, right, top, base = 6.0, 6.0, 16.0, height - 18
    heights = sorted(k + d for k, d in zip(one.kept, one.dropped, strict=True) if k + d)
    most = heights[-1] if heights else 1
    root = most > 25 * heights[len(heights) // 2] if heights else False  # else one spike hides everything
    low, high = one.edges[0], one.edges[-1]
    step = (width - left - right) / len(one.kept)

    def x_of(value: float) -> float:
        return left + (value - low) / ((high - low) or 1) * (width - left - right)

    parts: list[Markup] = []
    for i, (kept, dropped) in enumerate(zip(one.kept, one.dropped, strict=True)):
        x, y = left + i * step, base
        says = f"{number(one.edges[i])} to {number(one.edges[i + 1])}: {kept:,} kept, {dropped:,} dropped"
        whole = kept + dropped
        fill = ((whole / most) ** 0.5 if root else whole / most) * (base - top)
        for class_, rows in (("kept" if one.judged else "scored", kept), ("dropped", dropped)):
            if rows:
                tall = max(rows / whole * fill, 1)
                y -= tall
                box = {"x": x + 0.5, "y": y, "width": max(step - 1, 0.8), "height": tall}
                bar = tag("rect", tag("title", says), class_=f"bar {class_}", **box)
                address = href(one, i, "reject" if class_ == "dropped" else "keep") if href else None
                parts.append(tag("a", bar, href=address, tabindex=-1) if address else bar)
    parts.append(tag("line", class_="axis", x1=left, x2=width - right, y1=base, y2=base))
    if root:
        parts.append(
            tag("text", "heights: square root", class_="label", x=width / 2, y=height - 5, text_anchor="middle")
        )
    for x, value, anchor in ((left, low, "start"), (width - right, high, "end")):
        parts.append(tag("text", number(value, 3), class_="label", x=x, y=height - 5, text_anchor=anchor))
    for name, threshold, direction in one.rules:
        x = min(max(x_of(threshold), left), width - right)
        off = " (outside)" if not low <= threshold <= high else ""
        anchor = "start" if x < width / 2 else "end"
        told = f"kept {'above' if direction == 'keep-above' else 'below'} {number(threshold, 3)}{off}"
        if len(one.rules) > 1:  # short, and turned away from each other
            anchor = "end" if direction == "keep-above" and x > left + 40 else "start"
            told = f"{'≥' if direction == 'keep-above' else '≤'} {number(threshold, 3)}{off}"
        parts.append(
            tag("line", tag("title", f"{name} {number(threshold)}"), class_="threshold", x1=x, x2=x, y1=6, y2=base)
        )
        parts.append(
            tag(
                "text",
                told,
                class_="threshold-label",
                x=x + (4 if anchor == "start" else -4),
                y=12,
                text_anchor=anchor,
            )
        )
    for to in moved:
        x = min(max(x_of(to), left), width - right)
        says = tag("title", f"moved to {number(to)}")
        parts.append(tag("line", says, class_="threshold moved", x1=x, x2=x, y1=4, y2=base))
    return svg(width, height, f"{one.stage} {one.method}: {one.name}", *parts)


def curve(history: Sequence[Mapping[str, float]], width: float = 460, height: float = 180) -> Markup:
    """Loss over steps, every logged series whose name ends in ``loss``."""
    names = [name for name in dict.fromkeys(key for entry in history for key in entry) if name.endswith("loss")]
    points = {
        name: [(entry.get("step", float(i)), entry[name]) for i, entry in enumerate(history) if name in entry]
        for name in names
    }
    points = {name: some for name, some in points.items() if some}
    if not points:
        return Markup("")
    xs = [x for some in points.values() for x, _ in some]
    ys = [y for some in points.values() for _, y in some]
    left, right, top, base = 44.0, 64.0, 10.0, height - 22
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    pad = (high_y - low_y) * 0.06 or 0.5
    low_y, high_y = low_y - pad, high_y + pad

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - low_x) / ((high_x - low_x) or 1) * (width - left - right),
            base - (y - low_y) / (high_y - low_y) * (base - top),
        )

    parts: list[Markup] = []
    for i in range(4):
        value = low_y + (high_y - low_y) * i / 3
        y = at(low_x, value)[1]
        parts.append(tag("line", class_="grid", x1=left, x2=width - right, y1=y, y2=y))
        parts.append(tag("text", number(value, 3), class_="label", x=left - 6, y=y + 3.5, text_anchor="end"))
    for value, anchor in ((low_x, "start"), (high_x, "end")):
        parts.append(
            tag(
                "text", f"step {number(value)}", class_="label", x=at(value, low_y)[0], y=height - 6, text_anchor=anchor
            )
        )
    for i, (name, some) in enumerate(points.items()):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in some))
        parts.append(tag("polyline", class_=f"series s{i % 3}", points=line))
        x, y = at(*some[-1])
        parts.append(tag("circle", class_=f"dot s{i % 3}", cx=x, cy=y, r=2.5))
        parts.append(
            tag("text", f"{name.replace('_', ' ')} {number(some[-1][1], 3)}", class_="label", x=x + 6, y=y + 3.5)
        )
    return svg(width, height, "loss over steps", *parts)


def interval(metric: Metric, low: float, high: float, width: float = 240, height: float = 26) -> Markup:
    """A figure with its 95 % interval on a scale from ``low`` to ``high``; the figure before as an open circle."""
    left, right = 8.0, 8.0

    def x_of(value: float) -> float:
        return left + (value - low) / ((high - low) or 1) * (width - left - right)

    y = height / 2
    parts = [tag("line", class_="axis", x1=left, x2=width - right, y1=y, y2=y)]
    if metric.before is not None:
        says = f"before {number(metric.before)}"
        if metric.before_low is not None and metric.before_high is not None:
            ends = {"x1": x_of(metric.before_low), "x2": x_of(metric.before_high)}
            parts.append(tag("line", class_="whisker before", **ends, y1=y, y2=y))
        parts.append(tag("circle", tag("title", says), class_="before", cx=x_of(metric.before), cy=y, r=4.5))
    if metric.low is not None and metric.high is not None:
        parts.append(tag("line", class_="whisker", x1=x_of(metric.low), x2=x_of(metric.high), y1=y, y2=y))
    if metric.value is not None:
        says = f"after {number(metric.value)}"
        parts.append(tag("circle", tag("title", says), class_="after", cx=x_of(metric.value), cy=y, r=4.5))
    return svg(width, height, f"{metric.name}: {number(metric.before)} before, {number(metric.value)} after", *parts)


def spark(values: Sequence[int | None], width: float = 84, height: float = 20) -> Markup:
    """Sizes over versions; one value is a dot, a damaged version a gap."""
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    if not known:
        return Markup("")
    most = max(value for _, value in known) or 1
    step = (width - 8) / max(len(values) - 1, 1)
    places = [(4 + i * step, height - 3 - value / most * (height - 7)) for i, value in known]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [tag("polyline", class_="series s0", points=line)] if len(places) > 1 else []
    parts.append(tag("circle", class_="dot s0", cx=places[-1][0], cy=places[-1][1], r=2.5))
    return svg(width, height, "sizes of the versions", *parts, class_="spark")


def gauge(verdict: Verdict, width: float = 150, height: float = 14) -> Markup:
    """Where a score lies beside its threshold: the kept side is shaded, the score a dot, its distance to scale."""
    score, threshold = verdict.score, verdict.threshold
    if score is None or threshold is None:
        return Markup("")
    reach = max(abs(score - threshold), abs(threshold) * 0.5, 1e-9) * 1.15
    middle = width / 2
    x = middle + (score - threshold) / reach * (middle - 5)
    above = verdict.direction != "keep-below"
    side = {"x": middle if above else 0.0, "y": 4, "width": middle, "height": 6}
    kept = "kept" if verdict.fate == "keep" else "dropped"
    return svg(
        width,
        height,
        f"score {number(score)}, threshold {number(threshold)}",
        tag("rect", class_="track", x=0, y=4, width=width, height=6),
        tag("rect", class_="bar kept soft", **side),
        tag("line", class_="tick", x1=middle, x2=middle, y1=0, y2=height),
        tag("circle", class_=f"dot {kept}", cx=x, cy=7, r=4),
        class_="bar-row",
    )


def scatter(points: Sequence[tuple[str, float, float]], across: str, up: str, size: float = 260) -> Markup:
    """Pairs of figures with the line on which they agree; both axes have one scale."""
    known = [value for _, x, y in points for value in (x, y)]
    if not known:
        return Markup("")
    low, high = min(known), max(known)
    air = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = low - air, high + air
    left, base, wide = 44.0, size - 30, size - 54

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x - low) / (high - low) * wide, base - (y - low) / (high - low) * (base - 8)

    x1, y1 = at(low, low)
    x2, y2 = at(high, high)
    parts = [
        tag("line", class_="grid", x1=x1, y1=y1, x2=x2, y2=y2),
        tag("text", across, class_="label", x=left + wide / 2, y=size - 4, text_anchor="middle"),
        tag("text", up, class_="label", x=2, y=10),
    ]
    for value in (low + air, high - air):
        x, y = at(value, value)
        parts.append(tag("text", number(value, 3), class_="label", x=x, y=base + 13, text_anchor="middle"))
        parts.append(tag("text", number(value, 3), class_="label", x=left - 5, y=y + 4, text_anchor="end"))
    for name, x, y in points:
        px, py = at(x, y)
        says = tag("title", f"{name}: {across} {number(x)}, {up} {number(y)}")
        parts.append(tag("circle", says, class_="dot s0", cx=px, cy=py, r=3.5))
    return svg(size, size, f"{up} against {across}", *parts)


def budget_bar(used: float, in_flight: float, limit: float, width: float = 220, height: float = 12) -> Markup:
    """What was spent and what is reserved, on a scale that ends a little beyond the limit, which is a tick."""
    unit = width / max(limit * 1.1, used + in_flight, 1e-9)
    spent = min(used * unit, width)
    says = f"{used / max(limit, 1e-9):.1%} of the limit spent"
    parts = [tag("rect", class_="track", x=0, y=0, width=width, height=height)]
    parts.append(tag("rect", tag("title", says), class_=f"bar {'dropped' if used >= limit else 'kept'}",
                     x=0, y=0, width=spent, height=height))  # fmt: skip
    if in_flight > 0:
        parts.append(tag("rect", tag("title", "reserved, not settled"), class_="bar created", x=spent, y=0,
                         width=min(in_flight * unit, width - spent), height=height))  # fmt: skip
    x = min(limit * unit, width)
    parts.append(tag("line", tag("title", "the limit"), class_="tick", x1=x, x2=x, y1=-2, y2=height + 2))
    return svg(width, height, says, *parts, class_="bar-row")


def timeline(
    steps: Sequence[tuple[str, str, float, float]], whole: float, width: float = 420, height: float = 12
) -> Markup:
    """One bar of a Gantt chart: ``(class, title, began, took)`` on a scale of ``whole`` seconds."""
    unit = width / max(whole, 1e-9)
    parts = [tag("rect", class_="track", x=0, y=0, width=width, height=height)]
    for class_, says, began, took in steps:
        x = min(began * unit, width - 2)
        box = {"x": x, "y": 0, "width": min(max(took * unit, 2.0), width - x), "height": height}
        parts.append(tag("rect", tag("title", says), class_=f"bar {class_}", **box))
    return svg(width, height, steps[0][1] if steps else "nothing", *parts, class_="bar-row")
