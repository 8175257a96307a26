"""What people say about contamination hits: a create-only log per decontamination step.

A *hit* is an example that a decontaminate step named a rule for: dropped, quarantined, or flagged and kept. A reviewer
looks at it beside the benchmark's item and either accepts it (it does give the item away) or rejects it (a false alarm).
Nothing a reviewer says changes a dataset; it measures the rules
(`tasks.reviewed.precision`: reviewed precision per rule and benchmark, with an interval). ::

    for hit in hits(store, ref):                 # of a decontaminate step, or of anything made from one
        print(hit.text, hit.text_spans, hit.item_text, hit.item_spans, hit.review)
    record(store, hit, "accept", who="ada", reason="the same question with the numbers in words")

Log entries are ``reviews/<stage>/<fingerprint>/<key>@00000001.json``, numbered from 1, published like tags: durable
before they are acknowledged, never replaced. Of a hit's entries the newest counts, the older ones are its history.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import BadName, CorruptStore, MissingDataset, SourceError
from schemas.identity import digest16
from schemas.lineage import DatasetRef, Manifest
from storage.commit import now
from storage.layout import manifest_path, tag_entry
from storage.packs.shelf import load_pack
from storage.store import Store

Verdict = Literal["accept", "reject"]

#: The part in which a decontaminate step keeps the items that it hit: ``benchmark``, ``item``, ``prompt``, ``answer``.
ITEMS_PART = "sidecar/items"

#: The part in which it keeps every flagged pair of an example (its ``position`` in the input) and an item.
PAIRS_PART = "sidecar/pairs"

_ENTRY = re.compile(r"([0-9a-f]{32})@([0-9]{8})\.json")
_MOST_REASON = 2000  # characters


class Review(BaseModel):
    """One entry of the log. ``accept``: the hit is a leak; ``reject``: it is a false alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    step: str
    example: str
    rule: str
    benchmark: str
    item: str
    verdict: Verdict
    reason: str
    who: str
    at: str  # UTC, ISO 8601
    number: int  # from 1, per hit


class Hit(BaseModel):
    """An example that a rule named, beside the item it names. Spans are half-open character ranges, in order.

    ``text`` is the turn that matched and ``item_text`` the item's prompt or answer (``field``), both raw; ``item_text``
    is None when the pack's text is not at hand any more. ``key`` (32 hex digits) is the same in every process.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    step: str  # ref of the decontaminate step
    example: str  # id, hex
    source: str
    position: int  # of the example in the step's input
    fate: Literal["keep", "reject", "edit", "quarantine"]
    rule: str
    says: str  # the rule in words
    score: float | None
    benchmark: str
    item: str
    field: str
    inside: str  # messages, or worse: the other answer of a preference example
    turn: int | None
    text: str
    text_spans: tuple[tuple[int, int], ...]
    item_text: str | None
    item_spans: tuple[tuple[int, int], ...]
    evidence: Mapping[str, Any]
    review: Review | None = None


def hits(
    store: Store,
    ref: DatasetRef,
    *,
    rule: str | None = None,
    benchmark: str | None = None,
    unreviewed: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> list[Hit]:
    """The hits of a decontaminate step, or of every one behind ``ref``: steps from the sources on, then input order.

    ``unreviewed`` leaves out those with a review. Texts are read only for the hits that are returned.
    """
    found: list[Hit] = []
    skip, left = offset, limit
    for manifest in steps_behind(store, ref):
        said = {review.key: review for review in _newest(store, manifest.ref)}
        rows = _rows(store, manifest, rule, benchmark)
        if unreviewed:
            rows = rows.filter(~pl.col("key").is_in(list(said)))
        page = rows.slice(skip, left)
        skip = max(0, skip - rows.height)
        if page.height:
            found += _hits(store, manifest, page, said)
        if left is not None:
            left -= page.height
            if left <= 0:
                break
    return found


def count(store: Store, ref: DatasetRef) -> pl.DataFrame:
    """Hits per ``step``, ``rule`` and ``benchmark``, largest first, without reading a text."""
    frames = [
        _rows(store, m, None, None).with_columns(pl.lit(str(m.ref)).alias("step")) for m in steps_behind(store, ref)
    ]
    every = pl.concat([f.select("step", "rule", "benchmark") for f in frames]) if frames else _NO_HITS
    return every.group_by("step", "rule", "benchmark").len("hits").sort(
        "hits", "step", "rule", "benchmark", descending=[True, False, False, False]
    )  # fmt: skip


def record(store: Store, hit: Hit, verdict: Verdict, *, who: str, reason: str = "") -> Review:
    """Append a verdict on a hit; durable on return. The same verdict, person and reason again is the entry there is.

    Raises ``BadName`` for an empty ``who`` or an over-long reason, ``MissingDataset`` if the step is not in the store.
    """
    ref = DatasetRef.parse(hit.step)
    if not who.strip() or len(who) > 200:
        raise BadName("a review needs to say who reviewed, in at most 200 characters")
    if len(reason) > _MOST_REASON:
        raise BadName(f"the reason has {len(reason)} characters; at most {_MOST_REASON:,} are kept")
    if not store.disk.fs.exists(manifest_path(store.root, ref)):
        raise MissingDataset(f"{ref} is not in the store {store.root}, so its hits cannot be reviewed")
    while True:
        before = history(store, hit)
        last = before[-1] if before else None
        if last and (last.verdict, last.who, last.reason) == (verdict, who, reason):
            return last
        review = Review(
            key=hit.key, step=hit.step, example=hit.example, rule=hit.rule, benchmark=hit.benchmark, item=hit.item,
            verdict=verdict, reason=reason, who=who, at=now(), number=(last.number if last else 0) + 1,
        )  # fmt: skip
        data = json.dumps(review.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False) + "\n"
        if store.disk.publish(data.encode(), _folder(store, ref) / f"{hit.key}{tag_entry(review.number)}"):
            return review


def history(store: Store, hit: Hit) -> list[Review]:
    """Every entry about a hit, oldest first."""
    ref = DatasetRef.parse(hit.step)
    return [r for r in _every(store, ref) if r.key == hit.key]


def reviews(store: Store, ref: DatasetRef) -> list[Review]:
    """The newest review of each reviewed hit of the decontaminate steps behind ``ref``, oldest first."""
    return sorted((r for m in steps_behind(store, ref) for r in _newest(store, m.ref)), key=lambda r: (r.at, r.key))


def steps_behind(store: Store, ref: DatasetRef) -> list[Manifest]:
    """The decontaminate steps that ``ref`` is or was made from, sources first."""
    return [m for m in store.upstream(ref) if m.step.stage == "decontaminate"]


_NO_HITS = pl.DataFrame(schema={"step": pl.String, "rule": pl.String, "benchmark": pl.String})


def _rows(store: Store, manifest: Manifest, rule: str | None, benchmark: str | None) -> pl.DataFrame:
    """The step's hits as rows: place in the input, fate, rule, score, evidence, what it names, key."""
    names = [r.name for r in manifest.rules]
    if "verdicts/pool" not in manifest.parts or not names:
        return pl.DataFrame(schema={"place": pl.UInt32, "rule": pl.String, "benchmark": pl.String, "key": pl.String})
    rows = (
        store.scan(manifest.ref, "verdicts/pool")
        .with_row_index("place")
        .filter(pl.col("rule") > 0)
        .collect()
        .with_columns(
            (pl.col("rule") - 1).replace_strict(dict(enumerate(names)), return_dtype=pl.String),
            *(
                pl.col("evidence").str.json_path_match(f"$.{name}").fill_null("").alias(name)
                for name in ("benchmark", "item")
            ),
        )
    )
    if rule is not None:
        rows = rows.filter(pl.col("rule") == rule)
    if benchmark is not None:
        rows = rows.filter(pl.col("benchmark") == benchmark)
    stem = f"hit\x1f{manifest.ref}"
    keys = [
        digest16(f"{stem}\x1f{place}\x1f{rule_}\x1f{bench}\x1f{item}".encode()).hex()
        for place, rule_, bench, item in rows.select("place", "rule", "benchmark", "item").iter_rows()
    ]
    return rows.with_columns(pl.Series("key", keys, dtype=pl.String))


def _hits(store: Store, manifest: Manifest, page: pl.DataFrame, said: Mapping[str, Review]) -> list[Hit]:
    pool = dict(manifest.step.inputs)["pool"]
    places = store.positions(pool)[page["place"].to_numpy()]
    examples = store.take(pool, places)
    texts = _item_texts(store, manifest)
    says = {r.name: r.says for r in manifest.rules}
    fates = ("keep", "reject", "edit", "quarantine")
    found: list[Hit] = []
    for row, example in zip(page.iter_rows(named=True), examples.iter_rows(named=True), strict=True):
        evidence: dict[str, Any] = json.loads(row["evidence"]) if row["evidence"] else {}
        inside, turn = str(evidence.get("in", "messages")), evidence.get("turn")
        field = str(evidence.get("field", "prompt"))
        text = _turn(example, inside, turn)
        item_text = texts.get((row["benchmark"], row["item"]), {}).get(field)
        spans = [one for one in evidence.get("spans") or () if isinstance(one, dict)]
        found.append(
            Hit(
                key=row["key"],
                step=str(manifest.ref),
                example=example["id"].hex(),
                source=example["source"] or "",
                position=row["place"],
                fate=fates[row["fate"]],
                rule=row["rule"],
                says=says.get(row["rule"], ""),
                score=row["score"],
                benchmark=row["benchmark"],
                item=row["item"],
                field=field,
                inside=inside,
                turn=turn if isinstance(turn, int) else None,
                text=text,
                text_spans=_ranges([s.get("text") for s in spans], len(text)),
                item_text=item_text,
                item_spans=_ranges([s.get("item") for s in spans], len(item_text or "")),
                evidence=evidence,
                review=said.get(row["key"]),
            )
        )
    return found


def _turn(example: Mapping[str, Any], inside: str, turn: Any) -> str:
    """The matched turn, or the whole conversation where the evidence names none."""
    said = example["worse" if inside == "worse" else "messages"] or []
    if isinstance(turn, int) and 0 <= turn < len(said):
        return str(said[turn]["content"] or "")
    return "\n\n".join(str(one["content"] or "") for one in said)


def _item_texts(store: Store, manifest: Manifest) -> dict[tuple[str, str], dict[str, str | None]]:
    """Texts of the items by benchmark and name: those the step kept, else those of a shipped pack with its digest."""
    if ITEMS_PART in manifest.parts:
        frames = [store.part(manifest.ref, ITEMS_PART)]
    else:
        frames = []
        for name, digest in manifest.step.content.items():
            try:
                pack = load_pack(name.removeprefix("benchmark/"))
            except SourceError:
                continue  # a pack of one's own, by a path that is not recorded: the hit is shown without its text
            if pack.digest == digest:
                frames.append(pack.items.with_columns(pl.lit(pack.name).alias("benchmark")))
    return {
        (row["benchmark"], row["item"]): {"prompt": row["prompt"], "answer": row["answer"]}
        for frame in frames
        for row in frame.iter_rows(named=True)
    }


def _ranges(spans: Sequence[Any], length: int) -> tuple[tuple[int, int], ...]:
    """Well-formed ranges within a text, in order; evidence may come from an older release or another program."""
    found = []
    for span in spans:
        if isinstance(span, list) and len(span) == 2 and all(isinstance(one, int) for one in span):
            start, end = max(0, span[0]), min(length, span[1])
            if start < end:
                found.append((start, end))
    return tuple(sorted(found))


def _folder(store: Store, ref: DatasetRef) -> Path:
    checked = DatasetRef.parse(str(ref))
    return store.root / "reviews" / checked.stage / checked.fingerprint


def _newest(store: Store, ref: DatasetRef) -> list[Review]:
    return list({review.key: review for review in _every(store, ref)}.values())


def _every(store: Store, ref: DatasetRef) -> list[Review]:
    """All entries of a step by key, then number."""
    folder = _folder(store, ref)
    found: list[Review] = []
    for entry in store.disk.fs.listdir(folder):
        match = _ENTRY.fullmatch(entry)
        if not match:
            continue
        try:
            review = Review.model_validate(json.loads(store.disk.fs.read(folder / entry)))
        except (FileNotFoundError, ValueError, ValidationError, RecursionError) as error:
            raise CorruptStore(f"{folder / entry} is no review; remove that file and review the hit again") from error
        if (review.key, review.number, review.step) != (match[1], int(match[2]), str(ref)):
            raise CorruptStore(f"{folder / entry} speaks of another hit; remove that file and review the hit again")
        found.append(review)
    return sorted(found, key=lambda r: (r.key, r.number))
