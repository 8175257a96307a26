"""The graph of versions as inline SVG: sources left; a long chain is folded into lines, as a text is."""

from markupsafe import Markup

from storage.questions.lineage import Edge, Lineage, Node
from storage.reports.draw import svg, tag

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, LANE = 168.0, 50.0, 44.0, 16.0, 30.0

#: Steps in one line of a picture; a chain that is a little longer is not folded.
PER_LINE, SPARE = 5, 1


def graph(lineage: Lineage, href: str | None = None) -> Markup:
    """The graph of versions, sources left; ``href`` is a prefix of links to a version's page."""
    column = _columns(lineage)
    most = max(column.values(), default=0) + 1
    per_line = PER_LINE if most > PER_LINE + SPARE else most
    down = _rows(lineage, column)
    tall: dict[int, int] = {}
    for ref, across in column.items():
        tall[across // per_line] = max(tall.get(across // per_line, 0), down[ref] + 1)
    top: dict[int, float] = {}
    y = 4.0
    for line in sorted(tall):
        top[line] = y
        y += tall[line] * (BOX_HEIGHT + GAP_Y) + LANE - GAP_Y
    place = {
        ref: (16 + across % per_line * (BOX_WIDTH + GAP_X), top[across // per_line] + down[ref] * (BOX_HEIGHT + GAP_Y))
        for ref, across in column.items()
    }
    lines = {ref: across // per_line for ref, across in column.items()}
    edges = [_edge(edge, place, lines, top) for edge in lineage.edges]
    boxes = [_box(node, place[node.ref], node.ref == lineage.ref, href) for node in lineage.nodes]
    width = max((x for x, _ in place.values()), default=0) + BOX_WIDTH + 16
    height = max((y for _, y in place.values()), default=0) + BOX_HEIGHT + 4
    return svg(width, height, f"the versions around {lineage.ref}", *edges, *boxes, class_="graph")


def _rows(lineage: Lineage, column: dict[str, int]) -> dict[str, int]:
    """How far down each version stands in its column: beside its only origin where there is room, so that lines stay short."""
    origins: dict[str, list[str]] = {}
    for edge in lineage.edges:
        origins.setdefault(edge.made, []).append(edge.origin)
    taken: set[tuple[int, int]] = set()
    found: dict[str, int] = {}
    for node in lineage.nodes:
        before = origins.get(node.ref, [])
        row = found.get(before[0], 0) if len(set(before)) == 1 else 0
        while (column[node.ref], row) in taken:
            row += 1
        taken.add((column[node.ref], row))
        found[node.ref] = row
    return found


def _edge(edge: Edge, place: dict[str, tuple[float, float]], lines: dict[str, int], top: dict[int, float]) -> Markup:
    (x1, y1), (x2, y2) = place[edge.origin], place[edge.made]
    start, end = (x1 + BOX_WIDTH, y1 + BOX_HEIGHT / 2), (x2, y2 + BOX_HEIGHT / 2)
    if lines[edge.origin] == lines[edge.made]:
        bend = max((end[0] - start[0]) / 2, 20)
        path = f"M{start[0]:g},{start[1]:g} C{start[0] + bend:g},{start[1]:g} {end[0] - bend:g},{end[1]:g} {end[0]:g},{end[1]:g}"
    else:  # into a later line: down beside the box, along the lane above that line, into the box from the left
        lane = top[lines[edge.made]] - LANE / 2
        path = f"M{start[0]:g},{start[1]:g} h9 V{lane:g} H{end[0] - 10:g} V{end[1]:g} h10"
    class_ = "edge" if edge.consumed else "edge read"
    ends = {"data_from": edge.origin, "data_to": edge.made}
    return tag("path", tag("title", f"{edge.role}: {edge.rows:,} rows"), class_=class_, d=path, **ends)


def _columns(lineage: Lineage) -> dict[str, int]:
    """How many steps lie before each version at most: what stands left of what."""
    found: dict[str, int] = {}
    for node in lineage.nodes:
        before = [found[edge.origin] for edge in lineage.edges if edge.made == node.ref and edge.origin in found]
        found[node.ref] = 1 + max(before) if before else 0
    return found


def _box(node: Node, place: tuple[float, float], here: bool, href: str | None) -> Markup:
    x, y = place
    behind = [
        tag("rect", class_="box behind", x=x + shift, y=y + shift, width=BOX_WIDTH, height=BOX_HEIGHT, rx=5)
        for shift in ((6.0, 3.0) if node.stands_for > 1 else ())
    ]
    name = f"{node.stage} {node.method}" if node.method != node.stage else node.stage
    told = node.tags[-1] if node.tags else f"{node.stands_for} × {name}" if node.stands_for > 1 else node.method
    rows = f"{node.rows_out:,} rows" if node.rows_out or node.stage != "finetune" else "a model"
    below = rows if told == node.stage else f"{node.stage} · {rows}"
    parts = (
        tag("title", f"{node.ref}: {node.change}"),
        *behind,
        tag("rect", class_="box here" if here else "box", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=5),
        tag("rect", class_=f"stage {_stage_class(node.stage)}", x=x, y=y, width=4, height=BOX_HEIGHT, rx=2),
        tag(
            "text",
            _cut(told, 19),
            class_="name",
            x=x + 13,
            y=y + 20,
        ),
        tag(
            "text",
            _cut(below, 27),
            class_="label",
            x=x + 13,
            y=y + 37,
        ),
    )
    about = {"class_": "node", "data_ref": node.ref}
    return tag("a", *parts, href=href + node.ref, **about) if href else tag("g", *parts, **about)


def _stage_class(stage: str) -> str:
    known = {
        "ingest": "created",
        "generate": "created",
        "gather": "read",
        "rank": "read",
        "mix": "repeats",
        "publish": "kept",
    }
    return known.get(stage, "dropped" if stage in ("filter", "dedup", "decontaminate", "select") else "read")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
