"""Why is this example in, or out? Its origin, each step's verdict with score and threshold, and where it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import polars as pl

from schemas.lineage import DatasetRef, Manifest
from storage.questions.find import Place, Scope, find_example, tagged
from storage.questions.kin import ancestors, creation, descendants, example_view, link_of, turn_views, with_file
from storage.questions.views import Edit, ExampleLoss, Hop, Occurrence, Outcome, Relative, Trace, Verdict
from storage.questions.words import (
    comparison,
    counted,
    evidence_words,
    listed,
    number,
    step_view,
    verdict_of,
    verdict_words,
)
from storage.seek import Reader, legible, role_part
from storage.store import Store

#: Stages that read a dataset without making another.
READERS = ("finetune", "evaluate", "losses")


@dataclass
class Walk:
    """One example's way through a scope: its hops, and where versions hold it."""

    place: Place
    brief: bool = False  # its end is asked for: what only describes the way is left out
    hops: list[Hop] = field(default_factory=list)
    present: dict[DatasetRef, list[int]] = field(default_factory=dict)
    successor: Place | None = None


def trace(store: Store, example: str | bytes, *, within: DatasetRef | str | None = None) -> Trace:
    """The whole story of one example, found by its id or a unique prefix of at least six hex digits.

    ``within`` is the ref or tag whose lineage is meant; left out, the newest tag that came from the example's version.
    Reads rows by position only. Raises ``MissingDataset`` for an unknown example, ``UsageError`` for an ambiguous one.
    """
    with legible(f"the story of example {example.hex() if isinstance(example, bytes) else example[:40]}"):
        return _trace(Reader(store), example, within)


def _trace(reader: Reader, example: str | bytes, within: DatasetRef | str | None) -> Trace:
    place, scope = find_example(reader, example, within)
    view = example_view(reader, place.home, place.row)
    made = descendants(reader, scope, place)
    walks = _chain(reader, scope, place)
    mine = next(walk for walk in walks if walk.place == place)
    hops = [_with_made(hop, made[0], walk.place) for walk in walks for hop in walk.hops]
    hops = [hop for hop in hops if hop.kind != "read" or hop.made or hop.step.stage in READERS]
    origin = with_file(reader, creation(reader, place, view), walks[0].place, scope.tag)
    outcome, sentence = _answer(reader, scope, walks, mine, made[0])
    up = ancestors(reader, place)
    after = _after(reader, scope, walks[-1])
    return Trace(
        sentence=sentence,
        outcome=outcome,
        within=str(scope.target) if scope.target else None,
        tag=scope.tag,
        example=view,
        creation=origin,
        hops=tuple(hops),
        edits=_edits(reader, walks),
        ancestors=up[0],
        more_ancestors=up[1],
        descendants=made[0],
        more_descendants=made[1],
        occurrences=_occurrences(reader, walks[-1].place),
        also_in=_also_in(reader, scope, place),
        trained=tuple(step_view(manifest) for manifest in after if manifest.ref.stage == "finetune"),
        losses=_losses(reader, after, walks[-1].place),
    )


def fate(reader: Reader, scope: Scope, place: Place) -> tuple[Outcome, str]:
    """The outcome of an example and the sentence its story begins with, without the rest of the story."""
    walks = _chain(reader, scope, place, brief=True)
    mine = next(walk for walk in walks if walk.place == place)
    told = _answer(reader, scope, walks, mine, ())
    if told[0] in ("kept", "dropped", "quarantined"):
        return told
    return _answer(reader, scope, walks, mine, descendants(reader, scope, place)[0])


def _chain(reader: Reader, scope: Scope, place: Place, *, brief: bool = False) -> list[Walk]:
    """The example's walk, with the walks of what it was edited from before it and edited into after it."""
    first = place
    for _ in range(50):
        manifest = reader.manifest(first.home)
        link = link_of(reader, first.home, first.row)
        if link is None or not any(inputs.edited for inputs in manifest.counts.inputs) or len(link.parents) != 1:
            break
        home, row = link.parents[0]
        first = Place(reader.id_of(home, row), home, row)
    walks = [walk(reader, scope, first, brief=brief)]
    while walks[-1].successor is not None and len(walks) < 50:
        walks.append(walk(reader, scope, walks[-1].successor, brief=brief))
    return walks


def walk(reader: Reader, scope: Scope, place: Place, *, brief: bool = False) -> Walk:
    """What each step in scope did with exactly this example, in order; ``brief`` leaves ranks out, which read a column."""
    way = Walk(place, brief)
    for manifest in scope.manifests:
        if manifest.ref == place.home:
            way.present[manifest.ref] = reader.positions_of(manifest.ref, place.home, place.row)
            continue
        held = [(role, ref, way.present[ref]) for role, ref in manifest.step.inputs if way.present.get(ref)]
        if not held:
            continue
        goes_on = False
        consumes = any(role_part(manifest, role) for role, _ in manifest.step.inputs)
        for role, ref, at in held:
            hop = _hop(reader, manifest, role, ref, at, way)
            way.hops.append(hop)
            goes_on |= hop.kind in ("ranked", "carried") or (hop.verdict is not None and hop.verdict.fate == "keep")
        if goes_on or not consumes:
            way.present[manifest.ref] = reader.positions_of(manifest.ref, place.home, place.row)
    return way


def _hop(reader: Reader, manifest: Manifest, role: str, ref: DatasetRef, at: Sequence[int], way: Walk) -> Hop:
    step = step_view(manifest)
    base: dict[str, Any] = {
        "step": step,
        "role": role,
        "position": at[0],
        "of": reader.rows_of(ref),
        "occurrences": len(at),
    }
    part = role_part(manifest, role)
    if part:
        stored = reader.row(manifest.ref, part, at[0])
        if stored is None:
            return Hop(**base, kind="judged", sentence=f"{manifest.ref} has no verdict at {at[0]}: run verify")
        if not manifest.rules and stored["fate"] == 0 and stored["score"] is None and step.stage == "gather":
            return Hop(**base, kind="carried", sentence=f"Gathered with {others_words(manifest, role)}")
        verdict = verdict_of(stored["fate"], stored["rule"], stored["score"], stored["evidence"], manifest.rules)
        successor = None
        if stored["successor"] is not None:
            row = int(stored["successor"])
            new = reader.id_of(manifest.ref, row)
            way.successor = Place(new, manifest.ref, row)
            successor = new.hex()
        return Hop(**base, kind="judged", verdict=verdict, successor=successor, sentence=verdict_words(verdict, step))
    if role == "pool" and "scores" in manifest.parts:
        scores = reader.row(manifest.ref, "scores", at[0]) or {}
        score = scores.get("score")
        if step.stage in ("evaluate", "losses"):
            return Hop(**base, kind="read", scores=scores, sentence=_measured_words(scores))
        rank = None if way.brief else _rank(reader, manifest.ref, score)
        words = f"Ranked {rank:,} of {base['of']:,}" if rank else f"Could not be scored among {base['of']:,}"
        words += f" by {step.method}" + (f": score {number(score)}" if score is not None else "")
        return Hop(**base, kind="ranked", scores=scores, rank=rank, sentence=words)
    consumes = any(role_part(manifest, other) for other, _ in manifest.step.inputs)
    if not consumes and reader.positions_of(manifest.ref, way.place.home, way.place.row):
        at_place = reader.positions_of(manifest.ref, way.place.home, way.place.row)
        words = (
            f"Published at position {at_place[0] + 1:,}" if step.stage == "publish" else f"Carried on by {step.stage}"
        )
        return Hop(**base, kind="carried", sentence=words)
    done = {"finetune": "Trained on", "evaluate": "Evaluated on"}.get(step.stage, "Read")
    return Hop(**base, kind="read", sentence=f"{done} by {step.stage} ({step.method}) as {role}")


def _measured_words(scores: Mapping[str, Any]) -> str:
    """``Evaluated on: loss 2.1, 2.9 before training``; what was not measured is left out."""
    loss, before = scores.get("loss", scores.get("after")), scores.get("before_loss", scores.get("before"))
    told = "Evaluated on" + (f": loss {number(loss)}" if loss is not None else "")
    return told + (f", {number(before)} before training" if before is not None else "")


def others_words(manifest: Manifest, role: str) -> str:
    """The other inputs of a step, counted: ``10 of synthetic``; "nothing else" where there are none."""
    return listed(f"{i.rows:,} of {i.role}" for i in manifest.counts.inputs if i.role != role) or "nothing else"


def _rank(reader: Reader, ref: DatasetRef, score: float | None) -> int | None:
    """1 = best; examples with equal scores share the best rank among them."""
    if score is None:
        return None
    better = reader.scan(ref, "scores").select((pl.col("score") > score).sum()).collect()
    return 1 + int(better.item())


def _with_made(hop: Hop, made: Sequence[Relative], place: Place) -> Hop:
    """A hop with the number of examples its step made directly from the example."""
    own = [child for child in made if child.home == hop.step.ref and place.id.hex() in child.of]
    if not own or hop.kind == "judged":
        return hop
    verb = "Shown to" if hop.kind == "read" else "Carried on by"
    return hop.model_copy(
        update={
            "made": len(own),
            "sentence": f"{verb} {hop.step.stage} ({hop.step.method}) as {hop.role}: "
            f"{counted(len(own), 'example')} made",
        }
    )


def _answer(
    reader: Reader, scope: Scope, walks: Sequence[Walk], mine: Walk, made: Sequence[Relative]
) -> tuple[Outcome, str]:
    """The outcome in one word and in one sentence."""
    end = walks[-1]
    fate, words = _end(reader, scope, end, made)
    if end is not mine:
        edit = next(hop for hop in mine.hops if hop.successor)
        return "edited", f"{edit.sentence}; it lives on as {end.place.id.hex()[:12]}. {words}"
    return fate, words


def _end(reader: Reader, scope: Scope, way: Walk, made: Sequence[Relative]) -> tuple[Outcome, str]:
    goal = _goals(scope)
    for ref in goal:
        at = way.present.get(ref)
        if at:
            return "kept", _kept_words(reader, scope, way, ref, at)
    fell = [hop for hop in way.hops if hop.verdict and hop.verdict.fate in ("reject", "quarantine")]
    if fell:
        last = fell[-1]
        assert last.verdict is not None
        more = f" (and by {counted(len(fell) - 1, 'other step')})" if len(fell) > 1 else ""
        return ("quarantined" if last.verdict.fate == "quarantine" else "dropped"), last.sentence + more
    if made:
        return "read", f"Read, not a candidate: {counted(len(made), 'example')} made from it"
    readers = [hop for hop in way.hops if hop.kind == "read"]
    if readers:
        return "read", f"Read, not a candidate: {listed(f'{hop.step.stage} as {hop.role}' for hop in readers)}"
    return "read", f"Not used: no step of {scope.tag or scope.target or 'the store'} judged it"


def _goals(scope: Scope) -> list[DatasetRef]:
    """The versions that decide whether an example is in: the target; in a whole store, those that nothing read."""
    by_ref = {manifest.ref: manifest for manifest in scope.manifests}
    if scope.target is not None:
        target = by_ref[scope.target]
        return [target.ref] if target.counts.rows_out else [ref for _, ref in target.step.inputs]
    used = {str(ref) for manifest in scope.manifests for _, ref in manifest.step.inputs}
    return [m.ref for m in reversed(scope.manifests) if str(m.ref) not in used and m.counts.rows_out]


def _kept_words(reader: Reader, scope: Scope, way: Walk, ref: DatasetRef, at: Sequence[int]) -> str:
    where = f"Kept: in {scope.tag or ref} at position {at[0] + 1:,} of {reader.rows_of(ref):,}"
    if len(at) > 1:
        where += f", {len(at)} times over"
    judged = [hop for hop in way.hops if hop.verdict and hop.verdict.fate == "keep"]
    if not judged:
        return where + "; no step judged it"
    told = f"; it passed {counted(len(judged), 'verdict')}"
    scored = [hop for hop in judged if hop.verdict and hop.verdict.margin is not None]
    if not scored:
        return where + told
    near = min(scored, key=_relative_margin)
    assert near.verdict is not None
    closest = f", the closest at {near.step.stage} by {near.step.method}: {comparison(near.verdict)}"
    return where + told + closest


def _relative_margin(hop: Hop) -> float:
    """How close a kept example came to falling, as a fraction of the threshold's size."""
    verdict = hop.verdict or Verdict(fate="keep")
    return abs(verdict.margin or 0.0) / max(abs(verdict.threshold or 0.0), 1e-9)


def _edits(reader: Reader, walks: Sequence[Walk]) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    for before, after in pairwise(walks):
        hop = next(hop for hop in before.hops if hop.successor)
        places = [(way.place.home, way.place.row) for way in (before, after)]
        old, new = (turn_views(row["messages"]) for row in reader.examples(places, ("messages",)))
        verdict = hop.verdict
        words = [verdict.rule, verdict.says, evidence_words(verdict.evidence)] if verdict else []
        edits.append(
            Edit(
                step=hop.step,
                old_id=before.place.id.hex(),
                new_id=after.place.id.hex(),
                old=old,
                new=new,
                reason=", ".join(dict.fromkeys(word for word in words if word)),
            )
        )
    return tuple(edits)


def _occurrences(reader: Reader, place: Place, limit: int = 40) -> tuple[Occurrence, ...]:
    """Published versions that hold the example, newest first; each is one seek in an id index."""
    found: list[Occurrence] = []
    tags = [tag for newest in reader.store.tags() for tag in reader.store.tag_history(newest.name)]
    for tag in sorted(tags, key=lambda tag: tag.created_at, reverse=True)[:limit]:
        manifest = reader.manifest(tag.ref)
        if manifest.parts.get("index"):
            at = reader.ids_between(tag.ref, "index", place.id, place.id, limit=1000)["position"].to_list()
        else:
            at = reader.positions_of(tag.ref, place.home, place.row)
        if at:
            found.append(
                Occurrence(
                    tag=f"{tag.name}@v{tag.number}",
                    ref=str(tag.ref),
                    positions=tuple(sorted(int(p) for p in at)[:10]),
                    count=len(at),
                    rows=manifest.counts.rows_out,
                )
            )
    return tuple(found)


def _also_in(reader: Reader, scope: Scope, place: Place) -> tuple[str, ...]:
    """Other tags whose lineage contains the version that created the example."""
    names: list[str] = []
    for other in tagged(reader):
        if other.target != scope.target and place.home in other.refs and other.tag:
            names.append(other.tag)
    return tuple(names)


def _after(reader: Reader, scope: Scope, way: Walk) -> list[Manifest]:
    """Steps downstream of the target, if the example is in it."""
    if scope.target is None or not way.present.get(scope.target):
        return []
    return reader.store.downstream(scope.target)


def _losses(reader: Reader, after: Sequence[Manifest], place: Place) -> tuple[ExampleLoss, ...]:
    """What was measured about it; NumPy, which that needs, is not imported for a story without."""
    if not any(manifest.ref.stage == "losses" for manifest in after):
        return ()
    from storage.questions.row_losses import example_losses

    return example_losses(reader, after, place.home, place.row)
