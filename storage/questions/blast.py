"""Blast radius: something turned out bad. Which examples of which versions came from it, directly or not?

A cause is an example, a source, a licence, a model, a prompt or one call. What it made is found by following links
forwards, home by home; what was only judged by a model is named, not counted as made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import polars as pl

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.questions.choice import Chosen
from storage.questions.dense import Array, Places, examples_of, places
from storage.questions.figures import money_by_model, prompt_texts
from storage.questions.find import find_example, whole
from storage.questions.rows import RowLine, lines_of
from storage.questions.views import Damage, View
from storage.questions.words import counted, listed, method_words
from storage.seek import Reader, legible
from storage.store import Store

Kind = Literal["example", "source", "license", "model", "prompt", "call"]
T = TypeVar("T")
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Rows of a recall list that a page shows.
SHOWN = 25


class Hit(View):
    """A version that holds examples of the cause."""

    ref: str
    stage: str
    says: str
    tags: tuple[str, ...]
    rows: int  # affected members, repeats counted
    of: int
    trained: tuple[str, ...] = ()  # fine-tuning steps that read it


class Blast(View):
    """The answer: where the cause lives on."""

    kind: Kind
    name: str
    says: str
    direct: int  # examples that the cause made or is
    descendants: int  # examples made from those
    versions: tuple[Hit, ...]  # those with affected rows, tagged ones first
    clean: int  # versions without any
    damage: tuple[Damage, ...] = ()  # versions that could not be read, and are not counted
    judged_by: tuple[str, ...] = ()  # steps in which the model or prompt judged rows, without making any
    within: str | None = None  # the version whose affected rows are shown
    rows: tuple[RowLine, ...] = ()
    start: int = 0
    next: int | None = None


class Cause(View):
    """Something that can be picked."""

    kind: Kind
    name: str
    says: str


def causes(store: Store) -> tuple[Cause, ...]:
    """Sources, licences, models and prompts of a store, by kind and name."""
    found: dict[tuple[Kind, str], str] = {}
    reader = Reader(store)
    for manifest in store.versions():
        for row in _composition(manifest):
            found.setdefault(("source", str(row.get("source") or "")), "source")
            found.setdefault(("license", str(row.get("license") or "unknown")), "licence")
        if manifest.ref.stage == "ingest" and manifest.step.method.get("source"):
            found.setdefault(("source", str(manifest.step.method["source"])), "source")
        with suppress(StoreError), legible(str(manifest.ref)):  # a damaged one is named where it is asked for
            for model in models_of(reader, manifest):
                found.setdefault(("model", model), "model")
        for name, text in prompt_texts(manifest):
            told = f"{method_words(manifest, 40)}: {' '.join(text.split())[:80]}"
            found.setdefault(("prompt", f"{manifest.ref}/{name}"), told)
    order = {kind: i for i, kind in enumerate(KINDS)}
    listed_ = [Cause(kind=kind, name=name, says=says) for (kind, name), says in found.items() if name]
    return tuple(sorted(listed_, key=lambda cause: (order[cause.kind], cause.name)))


def models_of(reader: Reader, manifest: Manifest) -> list[str]:
    """Models that a step's identity names or that its calls went to."""
    named = [str(b["model"]) for b in manifest.step.backends.values() if isinstance(b, Mapping) and b.get("model")]
    return list(dict.fromkeys([*named, *(use.model for use in money_by_model(reader, manifest))]))


def _composition(manifest: Manifest) -> list[Mapping[str, Any]]:
    stored = manifest.summary.get("composition")
    return [row for row in stored if isinstance(row, Mapping)] if isinstance(stored, list) else []


def blast(
    store: Store, kind: Kind, name: str, *, within: DatasetRef | str | None = None, start: int = 0, limit: int = SHOWN
) -> Blast:
    """Everything that came from a cause, in every version; some of the affected rows of ``within`` (or of the newest tag).

    ``name`` is an example's id, a source, a licence (``unknown`` for none), a model, a prompt as ``<ref>/<field>`` or the
    key of a call. Raises ``UsageError`` for an unknown kind or a cause that the store does not know.
    """
    reader = Reader(store)
    with legible(f"what came from {kind} {name[:60]}"):
        found = Affected(reader, kind, name)
        hits = found.versions()
        shown = store.resolve(within) if isinstance(within, str) else within
        if shown is None and hits:
            shown = DatasetRef.parse(hits[0].ref)
        lines: Sequence[RowLine] = ()
        after = None
        if shown is not None:
            asked = found.members(shown)
            lines = lines_of(reader, asked, start, limit)
            after = start + limit if start + limit < len(asked) else None
    return Blast(
        kind=kind,
        name=name,
        says=_says(kind, name, found, hits),
        direct=found.direct,
        descendants=found.total - found.direct,
        versions=tuple(hits),
        clean=len(found.manifests) - len(hits),
        damage=found.damage,
        judged_by=found.judged_by,
        within=str(shown) if shown else None,
        rows=tuple(lines),
        start=start,
        next=after,
    )


def recall_list(store: Store, kind: Kind, name: str) -> Iterator[dict[str, Any]]:
    """Each affected example once: id, source, the tags that hold it, whether the cause made it directly."""
    reader = Reader(store)
    with legible(f"what came from {kind} {name[:60]}"):
        found = Affected(reader, kind, name)
        tagged = found.tagged()
        where = {ref: _rows_by_home(found.members(ref).where) for ref in tagged}
        for manifest in found.manifests:
            if manifest.ref not in found.hit:
                continue
            rows = np.flatnonzero(found.hit[manifest.ref])
            for start in range(0, len(rows), 10_000):
                some = rows[start : start + 10_000]
                frame = reader.rows(manifest.ref, "examples", some.tolist(), ("id", "source", "license"))
                for row, (id_, source, licensed) in zip(some.tolist(), frame.iter_rows(), strict=True):
                    yield {
                        "id": id_.hex(),
                        "source": source or "",
                        "license": licensed or "unknown",
                        "made_by": str(manifest.ref),
                        "direct": bool(found.first[manifest.ref][row]) if manifest.ref in found.first else False,
                        "in": " ".join(
                            tag for ref, tag in tagged.items() if row in where[ref].get(manifest.ref, frozenset())
                        ),
                    }


def _rows_by_home(where: Places | None) -> dict[DatasetRef, frozenset[int]]:
    if where is None:
        return {}
    return {ref: frozenset(where.row[where.home == number].tolist()) for number, ref in enumerate(where.homes)}


class Affected:
    """Examples that came from a cause, as one array of flags per home."""

    def __init__(self, reader: Reader, kind: Kind, name: str) -> None:
        if kind not in KINDS:
            raise UsageError(f"a cause is one of {', '.join(KINDS)}, not {str(kind)[:40]!r}")
        self.reader = reader
        self.manifests = whole(reader).manifests
        self.judged_by: tuple[str, ...] = ()
        self._counts: dict[tuple[str, ...], int] = {}  # versions with the same members are counted once
        self._damage: dict[str, str] = {}
        self.first = self._direct(kind, name)
        self.hit = {ref: flags.copy() for ref, flags in self.first.items()}
        for manifest in self.manifests:
            self._read(manifest, self._follow, None)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Versions that could not be read: what came from the cause through them is not known."""
        return tuple(Damage(place=place, problem=problem) for place, problem in self._damage.items())

    def _read(self, manifest: Manifest, work: Callable[[Manifest], T], otherwise: T) -> T:
        """The work's result; a version that cannot be read is noted and leaves the rest standing."""
        try:
            with legible(str(manifest.ref)):
                return work(manifest)
        except StoreError as error:
            self._damage.setdefault(str(manifest.ref), str(error))
            return otherwise

    @property
    def direct(self) -> int:
        """Examples that the cause made or is."""
        return sum(int(flags.sum()) for flags in self.first.values())

    @property
    def total(self) -> int:
        """Those and everything made from them."""
        return sum(int(flags.sum()) for flags in self.hit.values())

    def versions(self) -> list[Hit]:
        """Versions with affected members, tagged ones first, then the newest."""
        tags = self._tags()
        trained: dict[str, list[str]] = {}
        for m in self.manifests:
            if m.ref.stage == "finetune":
                for _, ref in m.step.inputs:
                    trained.setdefault(str(ref), []).append(str(m.ref))
        found: list[Hit] = []
        for manifest in reversed(self.manifests):
            rows = self._read(manifest, self._count, 0)
            if rows:
                found.append(
                    Hit(
                        ref=str(manifest.ref),
                        stage=manifest.ref.stage,
                        says=method_words(manifest, 60),
                        tags=tuple(tags.get(manifest.ref, ())),
                        rows=rows,
                        of=manifest.counts.rows_out,
                        trained=tuple(trained.get(str(manifest.ref), ())),
                    )
                )
        return sorted(found, key=lambda hit: not hit.tags)

    def members(self, ref: DatasetRef) -> Chosen:
        """The affected members of one version, in order."""
        where = places(self.reader, ref)
        at = np.flatnonzero(where.gather(self.hit, False)) if self.hit else np.zeros(0, dtype=np.int64)
        return Chosen(ref, len(at), where.at(at), at)

    def tagged(self) -> dict[DatasetRef, str]:
        """Versions that have a name, with the newest of their names."""
        return {ref: names[-1] for ref, names in self._tags().items()}

    def _tags(self) -> dict[DatasetRef, list[str]]:
        store = self.reader.store
        found: dict[DatasetRef, list[str]] = {}
        for newest in store.tags():
            for tag in store.tag_history(newest.name):
                found.setdefault(tag.ref, []).append(f"{tag.name}@v{tag.number}")
        return found

    def _count(self, manifest: Manifest) -> int:
        if not self.hit or not manifest.counts.rows_out:
            return 0
        if not any(home in self.hit for home in manifest.homes or (manifest.ref,)):
            return 0
        members = tuple(part.sha256 for part in manifest.parts.get("members", ()))
        key = (*map(str, manifest.homes), *members) if members else (str(manifest.ref),)
        if key not in self._counts:
            self._counts[key] = int(places(self.reader, manifest.ref).gather(self.hit, False).sum())
        return self._counts[key]

    def _direct(self, kind: Kind, name: str) -> dict[DatasetRef, Array]:
        if kind == "example":
            place, _ = find_example(self.reader, name, None)
            flags = np.zeros(examples_of(self.reader.manifest(place.home)), dtype=bool)
            flags[place.row] = True
            alone: dict[DatasetRef, Array] = {}
            alone[place.home] = flags
            return alone
        found: dict[DatasetRef, Array] = {}
        known = self._named_by_members(kind, name)
        for manifest in self.manifests:
            named, flags = self._read(manifest, partial(self._of_step, kind, name), (False, None))
            known = known or named
            if flags is not None and flags.any():
                found[manifest.ref] = flags
        if not found and not known:
            raise UsageError(f"the store knows no {kind} {name[:80]!r}; `provender blast` lists what there is")
        return found

    def _named_by_members(self, kind: Kind, name: str) -> bool:
        """Whether a version counts members of a source or licence; notes what cannot be counted, its makers being gone."""
        there, known = {str(manifest.ref) for manifest in self.manifests}, False
        for manifest in self.manifests:
            counted_ = _composition(manifest) if kind in ("source", "license") else []
            named = any(str(row.get(kind) or "unknown") == name for row in counted_)
            known = known or named
            gone = [str(home) for home in manifest.homes if str(home) not in there]
            if gone and (named or not counted_):
                told = f"not counted here: rows that {listed(gone)} made, which the store has no more"
                self._damage.setdefault(str(manifest.ref), told)
        return known

    def _of_step(self, kind: Kind, name: str, manifest: Manifest) -> tuple[bool, Array | None]:
        """Whether a step names the cause, and which of its own examples are of it."""
        if kind not in ("source", "license"):
            return self._names(manifest, kind, name), self._by_calls(manifest, kind, name)
        if not manifest.parts.get("examples"):
            return False, None
        column = self.reader.scan(manifest.ref, "examples").select(pl.col(kind).fill_null("unknown"))
        return False, column.collect()[kind].eq(name).to_numpy()

    def _names(self, manifest: Manifest, kind: str, name: str) -> bool:
        """Whether the step names the cause; one that made nothing judged with it."""
        if kind == "prompt":
            ref, _, field = name.rpartition("/")
            named = str(manifest.ref) == ref and field in dict(prompt_texts(manifest))
        else:
            named = kind == "model" and name in models_of(self.reader, manifest)
        if named and not manifest.parts.get("examples"):
            self.judged_by = (*self.judged_by, str(manifest.ref))
        return named

    def _by_calls(self, manifest: Manifest, kind: str, name: str) -> Array | None:
        """Created examples whose calls are those of a model, of this prompt's step, or one call."""
        if not manifest.parts.get("links") or not manifest.parts.get("examples"):
            return None
        flags = np.zeros(examples_of(manifest), dtype=bool)
        links = self.reader.scan(manifest.ref, "links")
        if kind == "prompt":
            ref, _, field = name.rpartition("/")
            if str(manifest.ref) != ref or field not in dict(prompt_texts(manifest)):
                return None
            rows = links.select("row").collect()["row"]
        else:
            if not manifest.parts.get("calls"):
                return None
            calls = self.reader.scan(manifest.ref, "calls")
            wanted = pl.col("model") == name if kind == "model" else pl.col("key") == _key(name)
            keys = calls.filter(wanted).select("key").collect()["key"]
            flat = links.select("row", "calls").explode("calls", empty_as_null=False)
            rows = flat.filter(pl.col("calls").is_in(keys.implode())).select("row").collect()["row"]
        flags[rows.to_numpy()] = True
        return flags

    def _follow(self, manifest: Manifest) -> None:
        """What a step made from affected examples is affected."""
        if "links" not in manifest.parts or not any(home in self.hit for home in manifest.homes):
            return
        flat = (
            self.reader.scan(manifest.ref, "links")
            .select("row", "parents")
            .explode("parents", empty_as_null=False)
            .select(
                "row", pl.col("parents").struct.field("home"), pl.col("parents").struct.field("row").alias("parent")
            )
            .collect()
        )
        where = Places(tuple(manifest.homes), flat["home"].to_numpy(), flat["parent"].to_numpy())
        rows = flat["row"].to_numpy()[where.gather(self.hit, False)]
        if len(rows):
            flags = self.hit.setdefault(manifest.ref, np.zeros(examples_of(manifest), dtype=bool))
            flags[rows] = True


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError(f"{text[:60]!a} is not the key of a call: 32 hexadecimal digits") from None


def _says(kind: Kind, name: str, found: Affected, hits: Sequence[Hit]) -> str:
    made = found.total - found.direct
    what = {"license": "licence"}.get(kind, kind)
    told = f"{counted(found.direct, 'example')} of {what} {name[:60]}"
    if kind == "example":
        told = f"Example {name[:12]}"
    if made:
        told += f" and {made:,} made from {'it' if kind == 'example' else 'them'}"
    tagged = [hit for hit in hits if hit.tags]
    if not hits:
        return f"{told}: in no version"
    told += (
        f" reach {counted(len(hits), 'version')}"
        if kind != "example" or made
        else f" is in {counted(len(hits), 'version')}"
    )
    if tagged:
        told += f", among them {listed(f'{hit.tags[-1]} ({hit.rows:,} of {hit.of:,} rows)' for hit in tagged)}"
    trained = {one for hit in hits for one in hit.trained}
    return told + (f"; {counted(len(trained), 'model')} trained on it" if trained else "")
