"""A few examples to read: some that are in a version, and some that were dropped on the way, each with the reason."""

from collections.abc import Sequence

from schemas.lineage import DatasetRef, Manifest
from storage.questions.kin import turn_views
from storage.questions.rows import rows
from storage.questions.views import TurnView, View
from storage.questions.words import step_view, verdict_words
from storage.seek import Reader, role_part
from storage.store import Store

#: Characters of a turn that a sample shows.
CHARACTERS = 600


class Sample(View):
    """An example to read."""

    id: str
    source: str
    sentence: str
    messages: tuple[TurnView, ...]


def kept_samples(store: Store, ref: DatasetRef, count: int = 4) -> tuple[Sample, ...]:
    """Members spread evenly over a version."""
    reader = Reader(store)
    manifest = reader.manifest(ref)
    total = manifest.counts.rows_out
    positions = sorted({i * total // count for i in range(min(count, total))})
    places = reader.members_at(ref, positions)
    examples = reader.examples(places, ("id", "source", "messages"))
    return tuple(
        Sample(
            id=example["id"].hex(),
            source=example["source"] or "",
            sentence=f"position {position + 1:,} of {total:,}",
            messages=shortened(turn_views(example["messages"])),
        )
        for position, example in zip(positions, examples, strict=True)
    )


def dropped_samples(
    store: Store, manifests: Sequence[Manifest], per_step: int = 2, count: int = 8
) -> tuple[Sample, ...]:
    """Rows that the steps dropped, the ones nearest to staying first."""
    reader = Reader(store)
    found: list[Sample] = []
    for manifest in manifests:
        if len(found) >= count or not any(i.rejected for i in manifest.counts.inputs) or manifest.ref.stage == "mix":
            continue
        for role, of in manifest.step.inputs:
            part = role_part(manifest, role)
            if part is None:
                continue
            page = rows(store, manifest.ref, fate="reject", role=role, order="margin", limit=per_step)
            places = reader.members_at(of, [line.position for line in page.rows])
            examples = reader.examples(places, ("messages",))
            step = step_view(manifest)
            evidence = reader.rows(manifest.ref, part, [line.position for line in page.rows], ("evidence",))["evidence"]
            for line, example, proof in zip(page.rows, examples, evidence, strict=True):
                assert line.verdict is not None
                verdict = line.verdict.model_copy(update={"evidence": proof})
                found.append(
                    Sample(
                        id=line.id,
                        source=line.source,
                        sentence=verdict_words(verdict, step),
                        messages=shortened(turn_views(example["messages"])),
                    )
                )
    return tuple(found[:count])


def shortened(turns: Sequence[TurnView]) -> tuple[TurnView, ...]:
    """At most six turns, each at most ``CHARACTERS`` long."""
    return tuple(
        turn
        if len(turn.content) <= CHARACTERS
        else turn.model_copy(update={"content": turn.content[:CHARACTERS] + "…"})
        for turn in list(turns)[:6]
    )
