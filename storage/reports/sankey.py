"""The way from sources to set as one flow picture: bands as wide as their rows, what was dropped falls out below."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from storage.questions.views import FunnelRow
from storage.reports.draw import svg, tag

#: Steps a picture holds; longer ways are told by the table alone.
MOST = 40
HEIGHT, LEFT, TOP, NODE, GAP, FALL = 132.0, 6.0, 34.0, 9.0, 12.0, 34.0


@dataclass
class _Box:
    row: FunnelRow
    column: int
    x: float = 0.0
    y: float = 0.0
    rows: int = 0
    into: dict[str, int] = field(default_factory=dict)


Href = Callable[[str, str, str | None], str | None]


def sankey(rows: Sequence[FunnelRow], href: Href | None = None, width: float = 1140) -> Markup:
    """The steps of a version, sources left. ``href(ref, fate, rule)`` gives the address of the rows behind a band."""
    boxes = _boxes(rows)
    if not boxes or len(boxes) > MOST:
        return Markup("")
    link = href or (lambda ref, fate, rule: None)
    columns = max(box.column for box in boxes.values()) + 1
    stacks: dict[int, list[_Box]] = {}
    for box in boxes.values():
        stacks.setdefault(box.column, []).append(box)
    tallest = max(sum(box.rows for box in stack) for stack in stacks.values())
    unit = HEIGHT / max(tallest, 1)
    step = max((width - 2 * LEFT - 62) / max(columns - 1, 1), 74.0)
    for column, stack in stacks.items():
        over = sum(  # bands that pass above this column: its boxes stand below them
            rows
            for box in boxes.values()
            if box.column > column
            for origin, rows in box.into.items()
            if boxes[origin].column < column
        )
        y = TOP + (over * unit + 2.5 * GAP if over else 0)
        for box in stack:
            box.x, box.y = LEFT + box.column * step, y
            y += max(box.rows * unit, 3) + GAP + (12 if len(stack) > 1 else 0)
    bands = [band for box in boxes.values() for band in _bands(box, boxes, unit)]
    falls = [fall for box in boxes.values() for fall in _falls(box, unit, link)]
    nodes = [node for box in boxes.values() for node in _node(box, unit, len(stacks[box.column]) > 1, link)]
    depth = max(box.y + max(box.rows * unit, 3) for box in boxes.values())
    low = [box.y + max(box.rows * unit, 3) for box in boxes.values() if box.row.rejected or box.row.refused]
    height = max(depth + 6, *(y + FALL + 18 for y in low), 0)
    return svg(
        LEFT * 2 + (columns - 1) * step + 62,
        height,
        "rows from sources to set",
        *bands,
        *falls,
        *nodes,
        class_="sankey",
    )


def _boxes(rows: Sequence[FunnelRow]) -> dict[str, _Box]:
    """Steps that hold rows of the set, by ref: those a consumed path leads from to the last."""
    by_ref = {row.step.ref: row for row in rows}
    flows: dict[str, list[str]] = {}
    for row in rows:
        side = {ref for _, ref, _ in row.read} if row.rows_in else set[str]()
        flows[row.step.ref] = [ref for _, ref in row.step.inputs if ref in by_ref and ref not in side]
    wanted: set[str] = set()
    todo = [rows[-1].step.ref] if rows else []
    while todo:
        ref = todo.pop()
        if ref not in wanted:
            wanted.add(ref)
            todo += flows[ref]
    column: dict[str, int] = {}
    boxes: dict[str, _Box] = {}
    for row in rows:
        ref = row.step.ref
        if ref not in wanted:
            continue
        column[ref] = 1 + max((column[origin] for origin in flows[ref] if origin in column), default=-1)
        into = {origin: by_ref[origin].rows_out for origin in flows[ref]}
        size = max(row.rows_in + row.created, row.rows_out)
        boxes[ref] = _Box(row, column[ref], rows=size, into=into)
    return boxes


def _bands(box: _Box, boxes: Mapping[str, _Box], unit: float) -> list[Markup]:
    parts: list[Markup] = []
    y = box.y
    for origin, rows in box.into.items():
        start = boxes[origin]
        thick = max(rows * unit, 1.0)
        read = not box.row.rows_in and box.row.created > 0
        parts.append(
            tag(
                "path",
                tag("title", f"{rows:,} rows of {start.row.step.ref}"),
                class_="band read" if read else "band",
                d=_band(start.x + NODE, start.y, box.x, y, 2.0 if read else thick),
            )
        )
        y += 0 if read else thick
    return parts


def _band(x1: float, y1: float, x2: float, y2: float, thick: float) -> str:
    middle = (x1 + x2) / 2
    return (
        f"M{x1:.1f},{y1:.1f} C{middle:.1f},{y1:.1f} {middle:.1f},{y2:.1f} {x2:.1f},{y2:.1f} "
        f"L{x2:.1f},{y2 + thick:.1f} C{middle:.1f},{y2 + thick:.1f} {middle:.1f},{y1 + thick:.1f} {x1:.1f},{y1 + thick:.1f} Z"
    )


def _falls(box: _Box, unit: float, href: Href) -> list[Markup]:
    """What leaves below a step: dropped rows, and candidates or outside rows that were refused."""
    row = box.row
    lost = row.rejected + row.quarantined
    told: list[tuple[str, int, str]] = []
    if lost:
        told.append(("dropped", lost, "reject"))
    if row.refused:
        told.append(("refused", row.refused, "refused"))
    parts: list[Markup] = []
    bottom = box.y + max(box.rows * unit, 3)
    for number, (class_, count, fate) in enumerate(told):
        thick = min(max(count * unit, 1.5), 46.0)
        x, start = box.x + NODE, bottom - (count * unit if class_ == "dropped" else 0)
        x += number * 26
        end = bottom + FALL
        top = min(start, bottom - min(thick, box.rows * unit))
        path = (
            f"M{box.x + NODE:.1f},{top:.1f} C{x + 14 + thick:.1f},{top:.1f} {x + 10 + thick:.1f},{bottom:.1f} "
            f"{x + 10 + thick:.1f},{end:.1f} L{x + 10:.1f},{end:.1f} C{x + 10:.1f},{bottom + 2:.1f} "
            f"{x + 8:.1f},{bottom:.1f} {box.x + NODE:.1f},{bottom:.1f} Z"
        )
        why = ", ".join(f"{reason.rule} {reason.rows:,}" for reason in row.reasons[:4]) if class_ == "dropped" else ""
        says = f"{count:,} {class_}" + (f": {why}" if why else "")
        inside = (
            tag("title", says),
            tag("path", class_=f"fall {class_}", d=path),
            tag("text", f"−{count:,}", class_=f"count {class_}", x=x + 10, y=end + 13),
        )
        address = href(row.step.ref, fate, None)
        parts.append(tag("a", *inside, href=address) if address else tag("g", *inside))
    return parts


def _node(box: _Box, unit: float, crowded: bool, href: Href) -> list[Markup]:
    row = box.row
    height = max(box.rows * unit, 3)
    kind = "created" if row.created and not row.rows_in else "kept"
    name = row.step.method if row.step.method != row.step.stage else row.step.stage
    says = f"{row.step.stage} {row.step.method}: {row.rows_out:,} rows"
    label = [
        tag("text", _cut(name, 13), class_="name", x=box.x, y=box.y - 16),
        tag("text", f"{row.rows_out:,}", class_="label", x=box.x, y=box.y - 4),
    ]
    if crowded:
        label = [
            tag("text", _cut(f"{name} {row.rows_out:,}", 20), class_="name", x=box.x, y=box.y - 4),
        ]
    parts = (
        tag("title", says),
        tag("rect", class_=f"node {kind}", x=box.x, y=box.y, width=NODE, height=height),
        *label,
    )
    address = href(row.step.ref, "member", None)
    return [tag("a", *parts, href=address) if address else tag("g", *parts)]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
