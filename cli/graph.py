"""The graph of versions as a tree of text, as Graphviz and as Mermaid."""

from cli.plain import line
from storage.questions.lineage import Edge, Lineage, Node
from storage.questions.words import counted


def lineage_text(graph: Lineage) -> str:
    """A tree from the version back to its sources; a version that stands in two places is told once."""
    nodes = {node.ref: node for node in graph.nodes}
    told = [_node_line(nodes[graph.ref], "", "")] if graph.ref in nodes else []
    seen = {graph.ref}
    inputs: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        inputs.setdefault(edge.made, []).append(edge)

    def walk(ref: str, prefix: str) -> None:
        for i, edge in enumerate(inputs.get(ref, ())):
            last = i == len(inputs[ref]) - 1
            again = edge.origin in seen
            seen.add(edge.origin)
            role = "" if edge.consumed else f"{edge.role}: "
            words = _node_line(nodes[edge.origin], prefix + ("└─ " if last else "├─ "), role)
            told.append(words + ("  (above)" if again and inputs.get(edge.origin) else ""))
            if not again:
                walk(edge.origin, prefix + ("   " if last else "│  "))

    walk(graph.ref, "")
    below = [node for node in graph.nodes if node.hops > 0]
    if below:
        told += ["", "made from it:", *(_node_line(node, "  ", "") for node in below)]
    if graph.hidden:
        told.append(f"… and {counted(graph.hidden, 'version')} further away")
    return "\n".join(told)


def _node_line(node: Node, prefix: str, role: str) -> str:
    tags = f"  [{', '.join(map(line, node.tags))}]" if node.tags else ""
    many = f"{node.stands_for} × " if node.stands_for > 1 else ""
    return f"{prefix}{role}{node.ref}  {many}{line(node.method)}: {line(node.change)}{tags}"


def lineage_dot(graph: Lineage) -> str:
    """The graph for Graphviz."""
    told = ["digraph lineage {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif", fontsize=10];']
    for node in graph.nodes:
        label = _quoted(f"{node.tags[-1] + ' ' if node.tags else ''}{node.stage} {node.method}\n{node.rows_out:,} rows")
        told.append(f"  {_quoted(node.ref)} [label={label}{', penwidth=2' if node.ref == graph.ref else ''}];")
    for edge in graph.edges:
        style = "" if edge.consumed else ", style=dashed"
        told.append(f"  {_quoted(edge.origin)} -> {_quoted(edge.made)} [label={_quoted(edge.role)}{style}];")
    return "\n".join([*told, "}"])


def _quoted(text: str) -> str:
    harmless = "\n".join(line(part) for part in text.split("\n"))
    return '"' + harmless.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def lineage_mermaid(graph: Lineage) -> str:
    """The graph for Mermaid; labels are quoted and their marks written as entities."""
    names = {node.ref: f"n{i}" for i, node in enumerate(graph.nodes)}
    told = ["flowchart LR"]
    for node in graph.nodes:
        label = _entities(
            f"{node.tags[-1] + ' ' if node.tags else ''}{node.stage} {node.method}, {node.rows_out:,} rows"
        )
        told.append(f'  {names[node.ref]}["{label}"]')
    for edge in graph.edges:
        arrow = "-->" if edge.consumed else "-.->"
        told.append(f'  {names[edge.origin]} {arrow}|"{_entities(edge.role)}"| {names[edge.made]}')
    return "\n".join(told)


def _entities(text: str) -> str:
    return "".join(c if c.isalnum() or c in " ,.-_@" else f"#{ord(c)};" for c in line(text))
