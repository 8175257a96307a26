"""The graph of versions behind and after one version: nodes with their counts, edges with their roles."""

from collections.abc import Iterable

from schemas.lineage import DatasetRef, Manifest
from storage.questions.funnel import change_words, funnel
from storage.questions.views import View
from storage.questions.words import method_tag, method_words
from storage.seek import role_part
from storage.store import Store

#: A picture with more boxes than this shows nobody anything; the rest is counted.
MOST_NODES = 200


class Node(View):
    """One version."""

    ref: str
    stage: str
    method: str
    says: str
    change: str  # "1,000 in, 120 dropped (too-short 80), 880 out"
    rows_out: int
    tags: tuple[str, ...] = ()
    hops: int  # steps from the version asked for: negative upstream, positive downstream
    stands_for: int = 1  # versions alike that are drawn as one
    alike: tuple[str, ...] = ()  # refs of the others, at most 200


class Edge(View):
    """One input of a step. ``consumed``: its rows got a fate there; otherwise they were only read."""

    origin: str
    made: str
    role: str
    consumed: bool
    rows: int


class Lineage(View):
    """Versions in an order in which every origin stands before what was made from it."""

    ref: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    hidden: int = 0  # versions further away than the nearest MOST_NODES


def lineage(
    store: Store, version: DatasetRef | str, *, up: int | None = None, down: int | None = None, most: int = MOST_NODES
) -> Lineage:
    """The graph around a ref or tag, at most ``up`` and ``down`` steps away (None: all), nearest ``most`` versions."""
    ref = store.resolve(version) if isinstance(version, str) else version
    above = store.upstream(ref)
    below = store.downstream(ref) if down != 0 else []
    manifests = {manifest.ref: manifest for manifest in [*above, *below]}
    hops = {**_distances(ref, manifests, upwards=False), **_distances(ref, manifests, upwards=True)}
    near = [r for r, n in hops.items() if (n >= 0 or up is None or -n <= up) and (n <= 0 or down is None or n <= down)]
    near.sort(key=lambda r: abs(hops[r]))
    shown = set(map(str, near[:most]))
    names: dict[str, list[str]] = {}
    for newest in store.tags():
        for tag in store.tag_history(newest.name):
            names.setdefault(str(tag.ref), []).append(f"{tag.name}@v{tag.number}")
    ordered = [manifest for manifest in manifests.values() if str(manifest.ref) in shown]
    return Lineage(
        ref=str(ref),
        nodes=tuple(_node(manifest, hops[manifest.ref], names.get(str(manifest.ref), ())) for manifest in ordered),
        edges=tuple(
            Edge(
                origin=str(origin),
                made=str(manifest.ref),
                role=role,
                consumed=role_part(manifest, role) is not None,
                rows=next((i.rows for i in manifest.counts.inputs if i.role == role), 0),
            )
            for manifest in ordered
            for role, origin in manifest.step.inputs
            if str(origin) in shown
        ),
        hidden=len(near) - len(shown),
    )


#: So many versions alike beside each other are drawn as one.
ALIKE = 5


def collapsed(graph: Lineage, alike: int = ALIKE) -> Lineage:
    """The graph with versions that differ in nothing but their content drawn as one: same stage, method, origins, readers.

    The version asked for and tagged ones stay on their own. Shards and sweeps shrink to a box with a number.
    """
    into: dict[str, set[str]] = {}
    outof: dict[str, set[str]] = {}
    for edge in graph.edges:
        into.setdefault(edge.made, set()).add(f"{edge.role if edge.consumed else 'read'} {edge.origin}")
        outof.setdefault(edge.origin, set()).add(edge.made)
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        own = node.ref == graph.ref or bool(node.tags)
        kind = (node.stage, frozenset(into.get(node.ref, ())), frozenset(outof.get(node.ref, ())))
        groups.setdefault((node.ref,) if own else kind, []).append(node)
    stand: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for group in groups.values():
        many = len(group) >= alike
        for node in group:
            stand[node.ref] = group[0].ref if many else node.ref
            nodes[node.ref] = node
        if many:
            others = tuple(node.ref for node in group[1:])
            nodes[group[0].ref] = group[0].model_copy(
                update={
                    "stands_for": len(group),
                    "alike": others[:MOST_NODES],
                    "rows_out": sum(node.rows_out for node in group),
                    "says": f"{len(group)} versions like {group[0].says}",
                    "change": f"{len(group)} versions, {sum(node.rows_out for node in group):,} rows together",
                }
            )
    edges: dict[tuple[str, str, bool], Edge] = {}
    for edge in graph.edges:
        key = (stand[edge.origin], stand[edge.made], edge.consumed)
        held = edges.get(key)
        rows = edge.rows + (held.rows if held else 0)
        edges[key] = edge.model_copy(update={"origin": key[0], "made": key[1], "rows": rows})
    shown = tuple(nodes[node.ref] for node in graph.nodes if stand[node.ref] == node.ref)
    return graph.model_copy(update={"nodes": shown, "edges": tuple(edges.values())})


def path_between(store: Store, start: DatasetRef, end: DatasetRef) -> Lineage:
    """Every version on some way from one version to another; only the two themselves if no way leads there."""
    below = {str(manifest.ref) for manifest in store.downstream(start)}
    on_the_way = {str(m.ref) for m in store.upstream(end)} & below
    if not on_the_way:  # perhaps it was asked the other way round
        other = {str(m.ref) for m in store.downstream(end)} & {str(m.ref) for m in store.upstream(start)}
        on_the_way = other or {str(start), str(end)}
    whole = lineage(store, end if str(end) in on_the_way else start, most=100_000)
    nodes = tuple(node for node in whole.nodes if node.ref in on_the_way)
    if str(start) not in {node.ref for node in nodes}:
        nodes += tuple(node for node in lineage(store, start, up=0, down=0).nodes)
    shown = {node.ref for node in nodes[:MOST_NODES]}
    return Lineage(
        ref=str(end),
        nodes=nodes[:MOST_NODES],
        edges=tuple(edge for edge in whole.edges if edge.origin in shown and edge.made in shown),
        hidden=max(0, len(nodes) - MOST_NODES),
    )


def _node(manifest: Manifest, hops: int, tags: Iterable[str]) -> Node:
    return Node(
        ref=str(manifest.ref),
        stage=manifest.ref.stage,
        method=method_tag(manifest),
        says=method_words(manifest),
        change=change_words(funnel([manifest])[0]),
        rows_out=manifest.counts.rows_out,
        tags=tuple(tags),
        hops=hops,
    )


def _distances(ref: DatasetRef, manifests: dict[DatasetRef, Manifest], *, upwards: bool) -> dict[DatasetRef, int]:
    """Least number of steps from ``ref`` to every version above (negative) or below it."""
    neighbours: dict[DatasetRef, list[DatasetRef]] = {}
    for manifest in manifests.values():
        for _, origin in manifest.step.inputs:
            a, b = (manifest.ref, origin) if upwards else (origin, manifest.ref)
            neighbours.setdefault(a, []).append(b)
    found: dict[DatasetRef, int] = {}
    found[ref] = 0
    frontier = [ref]
    while frontier:
        after: list[DatasetRef] = []
        for place in frontier:
            for other in neighbours.get(place, ()):
                if other not in found and other in manifests:
                    found[other] = found[place] + (-1 if upwards else 1)
                    after.append(other)
        frontier = after
    return found
