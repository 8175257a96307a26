"""Where an example began and what was made from it: links read forwards and backwards, calls word for word."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from schemas.lineage import DatasetRef, Manifest
from storage.questions.find import Place, Scope
from storage.questions.views import CallView, Creation, ExampleView, RefusedView, Relative, TurnView
from storage.questions.words import preview, step_view
from storage.seek import Reader

_HEX = re.compile("(?:[0-9a-f]{2}){1,32}")

#: Most relatives, calls and refused siblings an answer lists; the rest is counted.
LIMIT = 200


class Link(NamedTuple):
    """The stored origin of a created or edited example."""

    parents: tuple[tuple[DatasetRef, int], ...]
    calls: tuple[bytes, ...]
    evidence: str | None


def example_view(reader: Reader, home: DatasetRef, row: int) -> ExampleView:
    """An example word for word."""
    return as_view(reader.examples([(home, row)])[0], home, row)


def as_view(example: Mapping[str, Any], home: DatasetRef, row: int) -> ExampleView:
    """A row of an examples part as a view."""
    return ExampleView(
        id=example["id"].hex(),
        content_hash=(example["content_hash"] or b"").hex(),
        home=str(home),
        row=row,
        source=example["source"] or "",
        license=example["license"],
        synthetic_depth=example["synthetic_depth"] or 0,
        messages=turn_views(example["messages"]),
        tools=example["tools"],
        worse=turn_views(example["worse"]),
        extra=example["extra"],
    )


def turn_views(messages: Sequence[Mapping[str, Any]] | None) -> tuple[TurnView, ...]:
    """Stored turns as views; none for null."""
    return tuple(
        TurnView(role=turn["role"] or "", content=turn["content"] or "", extra=turn["extra"]) for turn in messages or ()
    )


def link_of(reader: Reader, home: DatasetRef, row: int) -> Link | None:
    """Parents and calls of an example, or None if it was ingested."""
    if not reader.has(home, "links"):
        return None

    def work() -> Link | None:
        found = reader.scan(home, "links").filter(pl.col("row") == row).head(1).collect()
        return _link(found.row(0, named=True), reader.manifest(home)) if found.height else None

    return reader.once((home, "link", row), work)


def _link(stored: Mapping[str, Any], manifest: Manifest) -> Link:
    parents = tuple((manifest.homes[p["home"]], int(p["row"])) for p in stored["parents"] or ())
    return Link(parents, tuple(stored["calls"] or ()), stored["evidence"])


def creation(reader: Reader, place: Place, example: ExampleView) -> Creation:
    """How the example came to be, with the exact calls and the candidates of the same calls that were refused."""
    manifest = reader.manifest(place.home)
    link = link_of(reader, place.home, place.row)
    if link is None:
        return Creation(how="ingested", step=step_view(manifest), source=example.source, line=line_of(reader, place))
    parents = relatives(reader, link.parents, steps=1, of={p: (place.id.hex(),) for p in link.parents})
    refused, siblings = _same_calls(reader, place, link.calls) if link.calls else ((), ())
    return Creation(
        how=how_created(manifest, link),
        step=step_view(manifest),
        source=example.source,
        parents=parents,
        calls=call_views(reader, place.home, (*link.calls, *_scorings(link.evidence))),
        evidence=link.evidence,
        siblings=siblings,
        refused=refused,
    )


def _scorings(evidence: str | None) -> list[bytes]:
    """Keys of the scorings that evidence names as ``scoring`` or ``scorings``, at any depth."""
    try:
        left: list[Any] = [json.loads(evidence or "{}")]
    except (ValueError, RecursionError):
        return []
    found: list[bytes] = []
    while left:
        value = left.pop(0)
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            named = [value.get("scoring"), *(many if isinstance(many := value.get("scorings"), list) else ())]
            found += [bytes.fromhex(key) for key in named if isinstance(key, str) and _HEX.fullmatch(key)]
            left += value.values()
    return found


def with_file(reader: Reader, origin: Creation, first: Place, tag: str | None) -> Creation:
    """Which example of which file it was, before any edit: the path stands in the recipe that the tag recorded."""
    if link_of(reader, first.home, first.row) is not None:
        return origin
    manifest = reader.manifest(first.home)
    path = None
    if tag is not None:
        name, _, number = tag.partition("@v")
        recorded = [one for one in reader.store.tag_history(name) if str(one.number) == number]
        sources: Any = (recorded[0].recipe or {}).get("sources") if recorded else None
        named: Any = sources.get(str(manifest.step.method.get("source"))) if isinstance(sources, Mapping) else None
        path = named.get("path") if isinstance(named, Mapping) else named
    digest = manifest.step.content.get("sha256")
    return origin.model_copy(
        update={
            "file": path if isinstance(path, str) else None,
            "digest": str(digest) if digest else None,
            "number": first.row + 1,
        }
    )


def how_created(manifest: Manifest, link: Link | None) -> Any:
    """``ingested``, ``edited`` (the step replaced a row of a consumed input) or ``generated``."""
    if link is None:
        return "ingested"
    return "edited" if any(inputs.edited for inputs in manifest.counts.inputs) else "generated"


def line_of(reader: Reader, place: Place) -> int | None:
    """Line in the source file, from 1, if the ingest kept it."""
    if not reader.has(place.home, "sidecar/lines"):
        return None
    found = reader.row(place.home, "sidecar/lines", place.row)
    return int(found["line"]) if found and found.get("line") is not None else None


def call_views(reader: Reader, home: DatasetRef, keys: Sequence[bytes]) -> tuple[CallView, ...]:
    """The calls of an example, in the order it names them."""
    if not keys or not reader.has(home, "calls"):
        return ()
    wanted = keys[:LIMIT]
    found = (
        reader.scan(home, "calls")
        .select("key")
        .with_row_index("position")
        .filter(pl.any_horizontal([pl.col("key") == key for key in wanted]))
        .collect()
    )
    rows = reader.rows(home, "calls", found["position"].to_list()).to_dicts()
    by_key = {row["key"]: _call(row) for row in rows}
    return tuple(by_key[key] for key in dict.fromkeys(wanted) if key in by_key)


def _call(row: Mapping[str, Any]) -> CallView:
    return CallView(
        key=row["key"].hex(),
        kind=row.get("kind") or "generate",
        model=row["model"] or "",
        request=request_of(row["request"]),
        reply=row["reply"] or "",
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cost_usd=row["cost_usd"],
        attempts=row["attempts"] or 0,
        cached=bool(row["cached"]),
        failure=row["failure"],
    )


def request_of(text: str | None) -> dict[str, Any]:
    """The stored request as a mapping, ``messages`` as role and content; what is no JSON object stands under ``text``."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = text
    if not isinstance(value, dict):
        return {"text": value}
    messages = value.get("messages")
    if isinstance(messages, list):
        value["messages"] = [
            {"role": turn[0], "content": turn[1]} if isinstance(turn, list) and len(turn) == 2 else turn
            for turn in messages
        ]
    return value


def _same_calls(
    reader: Reader, place: Place, keys: Sequence[bytes]
) -> tuple[tuple[RefusedView, ...], tuple[Relative, ...]]:
    """Candidates that the same calls wrote: the refused ones, and the accepted siblings."""
    refused: tuple[RefusedView, ...] = ()
    if reader.has(place.home, "refused"):
        at = _naming(reader.scan(place.home, "refused"), keys)[:LIMIT]
        refused = tuple(refused_view(row) for row in reader.rows(place.home, "refused", at).to_dicts())
    at = _naming(reader.scan(place.home, "links"), keys)[:LIMIT]
    rows = [int(row) for row in reader.rows(place.home, "links", at, ("row",))["row"] if row != place.row]
    others = [(place.home, row) for row in rows]
    return refused, relatives(reader, others, steps=0, of={})


def refused_view(row: Mapping[str, Any]) -> RefusedView:
    """A row of a ``refused`` part as a view."""
    return RefusedView(text=row["text"] or "", reason=row["reason"] or "", evidence=row["evidence"], line=row["line"])


def _naming(table: pl.LazyFrame, keys: Sequence[bytes]) -> list[int]:
    """Positions of the rows whose ``calls`` name one of the keys."""
    named = table.select("calls").with_row_index("position").explode("calls", empty_as_null=False)
    hits = named.filter(pl.any_horizontal([pl.col("calls") == key for key in keys[:LIMIT]]))
    return hits.select(pl.col("position").unique(maintain_order=True)).collect()["position"].to_list()


def relatives(
    reader: Reader,
    places: Sequence[tuple[DatasetRef, int]],
    *,
    steps: int,
    of: Mapping[tuple[DatasetRef, int], tuple[str, ...]],
) -> tuple[Relative, ...]:
    """Short views of examples at the other end of links."""
    unique = list(dict.fromkeys(places))[:LIMIT]
    rows = reader.examples(unique, ("id", "source", "messages"))
    views: list[Relative] = []
    for (home, row), example in zip(unique, rows, strict=True):
        first = next((turn["content"] for turn in example["messages"] or () if turn["role"] != "system"), "")
        views.append(
            Relative(
                id=example["id"].hex(),
                home=str(home),
                row=row,
                source=example["source"] or "",
                preview=preview(first or ""),
                steps=steps,
                of=of.get((home, row), ()),
                how=_how(reader, home),
            )
        )
    return tuple(views)


def _how(reader: Reader, home: DatasetRef) -> str:
    manifest = reader.manifest(home)
    if "links" not in manifest.parts:
        return "ingested"
    return "edited" if any(inputs.edited for inputs in manifest.counts.inputs) else "generated"


def ancestors(reader: Reader, place: Place, *, depth: int = 20) -> tuple[tuple[Relative, ...], int]:
    """Everything the example was made from, nearest first, down to what was ingested; and how many are not listed."""
    found: list[Relative] = []
    seen = {(place.home, place.row)}
    frontier: dict[tuple[DatasetRef, int], str] = {(place.home, place.row): place.id.hex()}
    left = 0
    for steps in range(1, depth + 1):
        children: dict[tuple[DatasetRef, int], list[str]] = {}
        for home in dict.fromkeys(home for home, _ in frontier):
            if not reader.has(home, "links"):
                continue
            rows = [row for at, row in frontier if at == home]
            links = reader.scan(home, "links").filter(pl.col("row").is_in(rows)).collect()
            for stored in links.to_dicts():
                child = frontier[home, int(stored["row"])]
                for parent in _link(stored, reader.manifest(home)).parents:
                    children.setdefault(parent, []).append(child)
        new = [parent for parent in children if parent not in seen]
        if not new:
            return tuple(found), left
        seen.update(new)
        left += max(0, len(found) + len(new) - LIMIT)
        listed = relatives(
            reader, new[: LIMIT - len(found)], steps=steps, of={p: tuple(dict.fromkeys(c)) for p, c in children.items()}
        )
        found += listed
        if len(found) >= LIMIT:
            return tuple(found), left
        frontier = {(DatasetRef.parse(relative.home), relative.row): relative.id for relative in listed}
    return tuple(found), left


def descendants(reader: Reader, scope: Scope, place: Place) -> tuple[tuple[Relative, ...], int]:
    """Everything in scope that was made from the example, directly or not; and how many are not listed."""
    known: dict[tuple[DatasetRef, int], tuple[str, int]] = {(place.home, place.row): (place.id.hex(), 0)}
    found: list[Relative] = []
    left = 0
    for manifest in scope.manifests:
        if "links" not in manifest.parts:
            continue
        numbers = {home: manifest.homes.index(home) for home, _ in known if home in manifest.homes}
        wanted = [(numbers[home], row) for home, row in known if home in numbers]
        if not wanted:
            continue
        hits = _children(reader, manifest.ref, wanted)
        of: dict[int, list[tuple[str, int]]] = {}
        for row, home, parent_row in hits.iter_rows():
            of.setdefault(int(row), []).append(known[manifest.homes[home], int(parent_row)])
        room = LIMIT - len(found)
        left += max(0, len(of) - room)
        listed = list(of)[:room]
        told = {(manifest.ref, row): tuple(dict.fromkeys(name for name, _ in of[row])) for row in listed}
        for row, view in zip(listed, relatives(reader, list(told), steps=1, of=told), strict=True):
            steps = 1 + min(step for _, step in of[row])
            found.append(view if steps == 1 else view.model_copy(update={"steps": steps}))
            known[manifest.ref, row] = (view.id, steps)
    return tuple(found), left


def _children(reader: Reader, ref: DatasetRef, wanted: Sequence[tuple[int, int]]) -> pl.DataFrame:
    """Own row, parent's home and parent's row of every link that names one of the wanted parents."""
    keys = pl.LazyFrame({"home": [h for h, _ in wanted], "parent": [r for _, r in wanted]}).cast(
        {"home": pl.UInt16, "parent": pl.UInt32}
    )
    flat = reader.scan(ref, "links").select("row", "parents").explode("parents", empty_as_null=False)
    named = flat.select(
        "row", pl.col("parents").struct.field("home"), pl.col("parents").struct.field("row").alias("parent")
    )
    return named.join(keys, on=["home", "parent"], how="semi").collect()
