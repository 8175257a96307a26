"""The receipt of a version: its digests, each file with its size, what it was made from, and whether the files still are that."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from schemas.errors import CorruptStore, MissingDataset, NewerStore
from schemas.lineage import DatasetRef, Manifest
from storage import manifests
from storage.files.fs import Remote
from storage.layout import manifest_path
from storage.questions.figures import prompt_texts, size_of
from storage.questions.show import tag_view, tags_of
from storage.questions.view import View
from storage.questions.views import Damage, TagView
from storage.questions.words import step_view
from storage.runs import now
from storage.store import Store
from storage.verify import part_problem, verify

#: ``whole``: every byte has the digest that names it; ``there``: right length, rows and columns; ``unread``: not looked at.
State = Literal["whole", "there", "damaged", "unread"]


class PartFile(View):
    """One file of a part."""

    part: str
    number: int  # among the part's files, from 1
    sha256: str
    rows: int
    size_bytes: int
    place: str
    state: State
    problem: str | None = None


class Origin(View):
    """What the version was made from. ``there`` is False if it is gone or damaged."""

    role: str
    ref: str
    digest: str | None
    rows: int | None
    there: bool


class PromptMark(View):
    """A prompt text of the step and the digest of its bytes."""

    field: str
    sha256: str
    characters: int


class Receipt(View):
    """Everything that proves what a version is. Without ``sound_manifest`` only what the damaged file itself says."""

    ref: str
    tags: tuple[TagView, ...]
    manifest_path: str
    manifest_sha256: str
    manifest_bytes: int
    sound_manifest: bool
    digest: str | None = None
    seal: str | None = None
    says: str = ""
    rows: int | None = None
    size_bytes: int | None = None
    made_at: str | None = None
    files: tuple[PartFile, ...] = ()
    origins: tuple[Origin, ...] = ()
    prompts: tuple[PromptMark, ...] = ()
    method: Mapping[str, Any] = {}
    backends: Mapping[str, Any] = {}
    content: Mapping[str, str] = {}
    rng_seed: int | None = None
    nondeterministic: bool = False
    verified: bool = False  # every byte was read for this answer
    checked: bool = False  # lengths, rows, seal and conservation were looked at
    looked_at: str = ""  # when this was asked, UTC
    problems: tuple[Damage, ...] = ()  # beside those of single files
    commands: str = ""

    @property
    def damaged(self) -> int:
        """Files that are not what the manifest says."""
        return sum(one.state == "damaged" for one in self.files)


def receipt(store: Store, version: DatasetRef | str, *, deep: bool = False) -> Receipt:
    """The receipt of a ref, tag or ``name@vN``; ``MissingDataset`` if its manifest is not there.

    ``deep`` reads every byte of its files. Otherwise lengths and shapes are looked at; of a store in a bucket nothing is.
    """
    ref = store.resolve(version) if isinstance(version, str) else version
    path = manifest_path(store.disk.root, ref)
    place = store.disk.shown(path)
    try:
        data = store.disk.fs.read(path)
    except FileNotFoundError as error:
        raise MissingDataset(
            f"the manifest of {ref} is no longer in this store: removed, or lost with a disk; `provender verify` says "
            "what else is missing"
        ) from error
    look = deep or not isinstance(store.disk.fs, Remote)
    common: dict[str, Any] = {
        "ref": str(ref),
        "tags": tuple(tag_view(tag) for tag in reversed(tags_of(store, ref))),
        "manifest_path": place,
        "manifest_sha256": hashlib.sha256(data).hexdigest(),
        "manifest_bytes": len(data),
        "looked_at": now(),
        "commands": f"provender verify {ref}\nprovender show {ref}\nprovender export {ref} --format croissant\n"
        f"provender export {ref} --format openlineage",
    }
    try:
        manifest = manifests.parse(data, ref, place)
    except (CorruptStore, NewerStore) as error:
        told = (Damage(place=place, problem=str(error)),)
        return Receipt(**common, sound_manifest=False, verified=deep, checked=True, problems=told)
    files = tuple(_files(store, manifest, look=look, deep=deep))
    return Receipt(
        **common,
        sound_manifest=True,
        digest=manifest.digest,
        seal=manifest.seal,
        says=step_view(manifest).says,
        rows=manifest.counts.rows_out,
        size_bytes=size_of(manifest),
        made_at=str(manifest.run.get("committed_at") or manifest.run.get("started_at") or "") or None,
        files=files,
        origins=tuple(_origin(store, role, origin) for role, origin in _named(manifest)),
        prompts=tuple(
            PromptMark(
                field=field, sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), characters=len(text)
            )
            for field, text in prompt_texts(manifest)
        ),
        method=dict(manifest.step.method),
        backends=dict(manifest.step.backends),
        content=dict(manifest.step.content),
        rng_seed=manifest.step.rng_seed,
        nondeterministic=manifest.nondeterministic,
        verified=deep,
        checked=look,
        problems=_others(store, ref) if look else (),
    )


def _files(store: Store, manifest: Manifest, *, look: bool, deep: bool) -> list[PartFile]:
    found: list[PartFile] = []
    for name, parts in manifest.parts.items():
        for number, part in enumerate(parts, 1):
            problem, state = None, "unread"
            if look:
                try:
                    problem = part_problem(store.disk, name, part, deep=deep)
                except (CorruptStore, OSError) as error:
                    problem = str(error)
                state = "damaged" if problem else "whole" if deep else "there"
            try:
                place = store.disk.shown(store.disk.object_path(part.sha256))
            except CorruptStore:
                place = "nowhere: its name is no digest"
            found.append(
                PartFile(
                    part=name, number=number, sha256=part.sha256, rows=part.rows, size_bytes=part.size_bytes,
                    place=place, state=state, problem=problem,
                )
            )  # fmt: skip
    return found


def _others(store: Store, ref: DatasetRef) -> tuple[Damage, ...]:
    """What is wrong beside single files: the seal, the digest over the parts, what it was made from, the counts."""
    try:
        found = verify(store.disk, ref, deep=False)
    except (CorruptStore, OSError) as error:
        return (Damage(place=str(ref), problem=str(error)),)
    return tuple(
        Damage(place=one.place, problem=f"{one.problem}; {one.way_out}") for one in found if ": part " not in one.place
    )


def _named(manifest: Manifest) -> list[tuple[str, DatasetRef]]:
    roles = [(role, ref) for role, ref in manifest.step.inputs]
    known = {str(ref) for _, ref in roles}
    return roles + [("home of its rows", ref) for ref in manifests.origins(manifest) if str(ref) not in known]


def _origin(store: Store, role: str, ref: DatasetRef) -> Origin:
    try:
        manifest = store.describe(ref)
    except (MissingDataset, CorruptStore, NewerStore):
        return Origin(role=role, ref=str(ref), digest=None, rows=None, there=False)
    return Origin(role=role, ref=str(ref), digest=manifest.digest, rows=manifest.counts.rows_out, there=True)
