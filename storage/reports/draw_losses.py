"""A picture of what training did to the losses of single rows: bars after it, the outline of how they stood before."""

from collections.abc import Callable

from markupsafe import Markup

from storage.questions.loss_views import RowLosses
from storage.questions.words import number
from storage.reports.draw import svg, tag


def losses(
    one: RowLosses, width: float = 460, height: float = 150, href: Callable[[RowLosses, int], str] | None = None
) -> Markup:
    """Distribution of the losses after training, and before it as a line; ``href(losses, bar)`` leads to a bar's rows."""
    if not one.edges:
        return Markup("")
    left, right, top, base = 6.0, 6.0, 10.0, height - 30
    most = max(*one.counts_before, *one.counts_after, 1)
    step = (width - left - right) / len(one.counts_after)
    high = one.edges[-1]

    def up(count: int) -> float:
        return base - count / most * (base - top)

    parts: list[Markup] = []
    for i, (before, after) in enumerate(zip(one.counts_before, one.counts_after, strict=True)):
        if not after:
            continue
        says = f"{number(one.edges[i], 3)} to {number(one.edges[i + 1], 3)}: {after:,} after, {before:,} before"
        y = min(up(after), base - 1)
        box = {"x": left + i * step + 0.5, "y": y, "width": max(step - 1, 0.8), "height": base - y}
        bar = tag("rect", tag("title", says), class_="bar kept", **box)
        address = href(one, i) if href else None
        parts.append(tag("a", bar, href=address, tabindex=-1) if address else bar)
    outline = f"M{left:g} {base:g}"
    for i, before in enumerate(one.counts_before):
        outline += f"V{up(before):.2f}H{left + (i + 1) * step:.2f}"
    parts.append(tag("path", class_="series s1", d=outline + f"V{base:g}"))
    parts.append(tag("line", class_="axis", x1=left, x2=width - right, y1=base, y2=base))
    middle = left + (width - left - right) / 2
    for x, value, anchor in ((left, 0.0, "start"), (middle, high / 2, "middle"), (width - right, high, "end")):
        parts.append(tag("text", number(value, 3), class_="label", x=x, y=base + 14, text_anchor=anchor))
    parts.append(tag("text", "loss, nats per token", class_="label", x=middle, y=height - 3, text_anchor="middle"))
    return svg(width, height, "losses of single rows before and after training", *parts)
