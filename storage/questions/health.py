"""Is the store well? What is damaged, what killed writers left, what could go, who is at work, what takes the room.

Looks and changes nothing: not even a run whose process is gone is marked as such here.
"""

import os
import re
import shlex
import time
from collections.abc import Sequence
from typing import Literal

import psutil
from pydantic import ValidationError

from schemas.errors import StoreError
from schemas.lineage import DatasetRef, Manifest
from storage import gc, tags
from storage.files.fs import Remote
from storage.files.objects import Disk
from storage.layout import manifest_path
from storage.questions.disk_use import Use, disk_use
from storage.questions.view import View
from storage.questions.views import Damage
from storage.runs import Run, is_dead
from storage.store import Store
from storage.verify import verify

#: How thorough: nothing (a bucket's objects would have to be fetched), files and manifests, conserved rows too, every byte.
Depth = Literal["none", "files", "structure", "all"]
Life = Literal["at work", "dead", "elsewhere"]

KEEP_DAYS, GRACE_HOURS = 14.0, 24.0
_REF = re.compile(r"[a-z][a-z0-9-]{0,31}@[0-9a-f]{16}")
_TAG = re.compile(r"tag ([^@\s]+)(?:@v(\d+))?$")
_TEMPORARY = re.compile(r"(?P<host>[A-Za-z0-9-]{1,32})-(?P<pid>\d{1,10})-[0-9a-f]{16}(?P<kind>\.[a-z]+)")
_HALF = re.compile(r"[a-z]+\.(?P<pid>\d{1,10})\.tmp")
_MOST_LISTED = 200


class Trouble(View):
    """Something that is wrong. ``ref`` is the version it is about, ``tag`` the tag."""

    place: str
    problem: str
    way_out: str
    ref: str | None = None
    tag: str | None = None


class Hurt(View):
    """A version that is damaged or half deleted, and what leads to it."""

    ref: str
    tags: tuple[str, ...]
    rows: int | None  # None: its manifest cannot be read
    problems: int


class Leftover(View):
    """A temporary file. ``writer`` says whether who wrote it still lives."""

    name: str  # below the store's folder
    kind: str
    bytes: int
    age_seconds: float
    writer: Literal["alive", "gone", "unknown"]
    collected: bool  # by `provender gc` as of now


class Loose(View):
    """A version that `provender gc` would remove."""

    ref: str
    rows: int
    unused_days: float


class Collectable(View):
    """What `provender gc` would plan now. ``refused``: why nothing can be planned."""

    keep_days: float = KEEP_DAYS
    grace_hours: float = GRACE_HOURS
    versions: tuple[Loose, ...] = ()
    rows: int = 0
    objects: int = 0  # of those versions alone, and those that no version names
    orphans: int = 0  # of the objects: never part of a version, left by a step that did not finish
    receipts: int = 0
    temporary: int = 0
    freed_bytes: int = 0
    refused: str | None = None


class AtWork(View):
    """A run that says it is running, and whether its process is there."""

    run_id: str
    name: str
    what: str
    started_at: str
    host: str
    pid: int
    life: Life


class Health(View):
    """The answer. ``unknown`` names what could not be looked at."""

    place: str
    here: bool  # a folder of this machine, not a bucket
    checked: Depth
    versions: int
    objects: int
    seconds: float
    troubles: tuple[Trouble, ...]
    hurt: tuple[Hurt, ...]
    leftovers: tuple[Leftover, ...]
    left: int  # all temporary files; the oldest are listed
    collectable: Collectable
    runs: tuple[AtWork, ...]
    use: tuple[Use, ...]
    verify: str  # the commands
    plan: str
    execute: str
    unknown: tuple[Damage, ...] = ()


def health(store: Store, depth: Depth | None = None) -> Health:
    """The store as it lies there now. Without a ``depth`` files and manifests are checked, of a bucket nothing.

    ``structure`` also reads what each step decided, for the law of conservation; ``all`` every byte of every object.
    What cannot be looked at is named under ``unknown``.
    """
    disk = store.disk
    here = not isinstance(disk.fs, Remote)
    checked: Depth = depth or ("files" if here else "none")
    unknown: list[Damage] = []
    began = time.monotonic()
    troubles = _troubles(store, checked, unknown)
    seconds = time.monotonic() - began
    known = {str(manifest.ref): manifest for manifest in store.versions()}
    hurt = _hurt(disk, troubles, known, unknown)
    left = _leftovers(disk, unknown)
    given = f" --store {shlex.quote(disk.place)}"
    return Health(
        place=disk.place,
        here=here,
        checked=checked,
        versions=len(known) + sum(one.rows is None for one in hurt),
        objects=len({part.sha256 for m in known.values() for parts in m.parts.values() for part in parts}),
        seconds=seconds,
        troubles=troubles,
        hurt=hurt,
        leftovers=tuple(left[:_MOST_LISTED]),
        left=len(left),
        collectable=_collectable(disk, known),
        runs=_at_work(disk),
        use=_use(disk, unknown),
        verify=f"provender verify{given}",
        plan=f"provender gc{given}",
        execute=f"provender gc --execute{given}",
        unknown=tuple(unknown),
    )


def _troubles(store: Store, checked: Depth, unknown: list[Damage]) -> tuple[Trouble, ...]:
    if checked == "none":
        return ()
    try:
        found = verify(store.disk, None, deep=checked == "all", laws=checked != "files")
    except (StoreError, OSError) as error:
        unknown.append(Damage(place=store.disk.place, problem=f"the check did not come to its end: {error}"))
        return ()
    return tuple(
        Trouble(
            place=one.place,
            problem=one.problem,
            way_out=one.way_out,
            ref=named[0] if (named := _REF.match(one.place)) else None,
            tag=_tagged(one.place),
        )
        for one in found
    )


def _tagged(place: str) -> str | None:
    found = _TAG.match(place)
    return found and found[1] + (f"@v{found[2]}" if found[2] else "")


def _hurt(
    disk: Disk, troubles: Sequence[Trouble], known: dict[str, Manifest], unknown: list[Damage]
) -> tuple[Hurt, ...]:
    count: dict[str, int] = {}
    for one in troubles:
        if one.ref:
            count[one.ref] = count.get(one.ref, 0) + 1
    names: dict[str, list[str]] = {}
    for name in sorted(tags.names(disk)):
        try:
            for tag in tags.history(disk, name):
                names.setdefault(str(tag.ref), []).append(f"{tag.name}@v{tag.number}")
        except StoreError as error:
            unknown.append(Damage(place=f"tag {name}", problem=str(error)))
    return tuple(
        Hurt(
            ref=ref,
            tags=tuple(names.get(ref, ())),
            rows=known[ref].counts.rows_out if ref in known else None,
            problems=problems,
        )
        for ref, problems in count.items()
    )


def _leftovers(disk: Disk, unknown: list[Damage]) -> list[Leftover]:
    """Temporary files, oldest first."""
    found: list[Leftover] = []
    clock = time.time()
    places = [disk.root / "tmp" / name for name in disk.fs.listdir(disk.root / "tmp")]
    try:
        places += sorted((disk.root / "runs").glob("*/*.tmp"))
    except OSError as error:
        unknown.append(Damage(place="runs", problem=f"cannot be listed: {error}"))
    for path in places:
        try:
            seen = path.lstat()
        except OSError:
            continue  # its writer was just done with it
        age = max(0.0, clock - seen.st_mtime)
        below_tmp = path.parent == disk.root / "tmp"
        kind, writer = _of_whom(path.name)
        found.append(
            Leftover(
                name=os.fsencode(path.relative_to(disk.root)).decode("utf-8", "replace"),
                kind=kind,
                bytes=seen.st_size,
                age_seconds=age,
                writer=writer,
                collected=below_tmp and age >= GRACE_HOURS * 3600,
            )
        )
    return sorted(found, key=lambda one: -one.age_seconds)


def _of_whom(name: str) -> tuple[str, Literal["alive", "gone", "unknown"]]:
    """What a temporary file was to become, and whether its writer lives, as far as its name tells."""
    if name.endswith(".aside"):
        return "set aside by gc", "unknown"
    if half := _HALF.fullmatch(name):
        return "note of a run", "alive" if psutil.pid_exists(int(half["pid"])) else "gone"
    if named := _TEMPORARY.fullmatch(name):
        kind = {".object": "object", ".json": "manifest, tag or receipt"}.get(named["kind"], "file")
        ours = "".join(c if c.isalnum() else "-" for c in os.uname().nodename)[:32]
        if named["host"] != ours:
            return kind, "unknown"
        return kind, "alive" if psutil.pid_exists(int(named["pid"])) else "gone"
    return "file", "unknown"


def _collectable(disk: Disk, known: dict[str, Manifest]) -> Collectable:
    try:
        plan = gc.preview(disk, keep_days=KEEP_DAYS, grace_hours=GRACE_HOURS)
    except (StoreError, OSError) as error:
        return Collectable(refused=str(error))
    named = {part.sha256 for m in known.values() for parts in m.parts.values() for part in parts}
    versions = tuple(_loose(disk, known, ref) for ref in plan.versions)
    return Collectable(
        versions=versions,
        rows=sum(one.rows for one in versions),
        objects=len(plan.objects),
        orphans=sum(sha256 not in named for sha256 in plan.objects),
        receipts=len(plan.receipts),
        temporary=len(plan.temporary),
        freed_bytes=plan.freed_bytes,
    )


def _loose(disk: Disk, known: dict[str, Manifest], ref: DatasetRef) -> Loose:
    try:
        unused = max(0.0, time.time() - disk.fs.mtime(manifest_path(disk.root, ref)))
    except FileNotFoundError:
        unused = 0.0
    rows = known[str(ref)].counts.rows_out if str(ref) in known else 0
    return Loose(ref=str(ref), rows=rows, unused_days=unused / 86_400)


def _at_work(disk: Disk) -> tuple[AtWork, ...]:
    """Runs that did not say how they ended, newest first; logs lie on the machine that ran."""
    found: list[AtWork] = []
    for path in (disk.root / "runs").glob("*/run.json"):
        try:
            run = Run.model_validate_json(path.read_text("utf-8"))
        except (OSError, ValueError, ValidationError):
            continue  # being written, or by a process that died before it said more than its name
        if run.status in ("running", "crashed"):
            life: Life = "dead" if run.status == "crashed" or is_dead(run) else "at work"
            if run.status == "running" and run.host != os.uname().nodename:
                life = "elsewhere"
            found.append(
                AtWork(
                    run_id=run.run_id, name=run.name, what=run.what, started_at=run.started_at,
                    host=run.host, pid=run.pid, life=life,
                )
            )  # fmt: skip
    return tuple(sorted(found, key=lambda one: one.started_at, reverse=True))


def _use(disk: Disk, unknown: list[Damage]) -> tuple[Use, ...]:
    try:
        return disk_use(disk)
    except (StoreError, OSError) as error:
        unknown.append(Damage(place=disk.place, problem=f"its size cannot be told: {error}"))
        return ()
