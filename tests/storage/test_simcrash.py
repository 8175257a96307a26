"""Power loss and SIGKILL after every operation of the real commit code, on a file system that forgets what was not synced.

After each crash a fresh store must open, hold every acknowledged version and tag, show nothing that is not sound, and
finish the same work exactly once. Broken versions of the protocol (mutants) must be caught by the same check.
"""

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from schemas.errors import ProvenderError
from schemas.lineage import Manifest, TagVersion
from storage.store import Store
from tests.storage.making import ingest, keep_where
from tests.storage.simulated_fs import (
    Image,
    Inode,
    SimulatedFileSystem,
    after_power_loss,
    copied,
    mounted,
)

ROOT = Path("/disk/store")


class Marks:
    """Commit ids that count up from the writer's number, in place of random ones, and a clock that stands.

    Two writers that do the same then leave the same bytes, wherever another was killed or came between: what would be
    one state under many names is recovered once.
    """

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, writer: int) -> None:
        self._next = itertools.count(writer << 32)

    def token_hex(self, size: int) -> str:
        return f"{next(self._next):0{2 * size}x}"

    def put(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the place of the real ones, for a test."""
        monkeypatch.setattr("storage.commit.secrets", self)
        for module in ("storage.commit", "storage.tags", "storage.gc"):
            monkeypatch.setattr(f"{module}.now", lambda: "2026-11-21T00:00:00.000000+00:00")
        self.begin(0)


MARKS = Marks()


@pytest.fixture(autouse=True)
def marks(monkeypatch: pytest.MonkeyPatch) -> None:
    MARKS.put(monkeypatch)


@dataclass
class Acks:
    """What the work was told is safe."""

    versions: list[Manifest] = field(default_factory=list)
    tags: list[TagVersion] = field(default_factory=list)

    def copy(self) -> "Acks":
        return Acks(list(self.versions), list(self.tags))


@dataclass(frozen=True)
class Moment:
    """The state right after one operation, and what was acknowledged by then."""

    state: Inode
    acks: Acks


def disk(mutant: str = "") -> SimulatedFileSystem:
    fs = SimulatedFileSystem(mutant=mutant)
    fs.mkdir(Path("/disk"))
    fs.sync_dir(Path("/"))
    return fs


def work(fs: SimulatedFileSystem, acks: Acks) -> None:
    """Ingest, filter, tag: two commits that share a root and a tag that moves to the second."""
    store = Store.open(ROOT, fs=fs)
    base = ingest(store, ["a", "bbb"])
    acks.versions.append(base)
    acks.tags.append(store.tag("demo", base.ref))
    kept = keep_where(store, base.ref, [False, True])
    acks.versions.append(kept)
    acks.tags.append(store.tag("demo", kept.ref))


def redo(fs: SimulatedFileSystem, acks: Acks) -> None:
    """What a rerun does: the same steps; the tag moves only if it is not there yet."""
    store = Store.open(ROOT, fs=fs)
    base = ingest(store, ["a", "bbb"])
    acks.versions.append(base)
    kept = keep_where(store, base.ref, [False, True])
    acks.versions.append(kept)
    acks.tags.append(store.tag("demo", kept.ref))


def moments(fs: SimulatedFileSystem, acks: Acks, job=work) -> list[Moment]:
    """Runs the job once and keeps the state after each of its operations."""
    MARKS.begin(2 if job is redo else 1)
    seen: list[Moment] = []
    fs.after = lambda: seen.append(Moment(copied(fs.root), acks.copy()))
    job(fs, acks)
    seen.append(Moment(copied(fs.root), acks.copy()))
    return seen


def problems(image: Image, acks: Acks) -> list[str]:
    """What is wrong after recovery from this state; empty if every promise held."""
    fs = mounted(image)
    try:
        store = Store.open(ROOT, fs=fs)
        found = broken(store, acks)
        if not found:
            again = Acks()
            MARKS.begin(3)
            redo(fs, again)
            fresh = Store.open(ROOT, fs=fs)
            found = broken(fresh, acks) + broken(fresh, again)
            if len(list(fresh.versions())) != 2:
                found.append(f"{len(list(fresh.versions()))} versions after redoing two steps")
            if {v.ref for v in fresh.tag_history("demo")} - {m.ref for m in again.versions}:
                found.append("the tag names a version nobody made")
        return found
    except (ProvenderError, OSError) as error:
        return [f"{type(error).__name__}: {error}"]


def broken(store: Store, acks: Acks) -> list[str]:
    found = [f"{f.place}: {f.problem}" for f in store.verify()]
    for manifest in acks.versions:
        if store.lookup(manifest.ref) != manifest:
            found.append(f"acknowledged {manifest.ref} is lost or another")
    for tag in acks.tags:
        if tag not in store.tag_history(tag.name):
            found.append(f"acknowledged {tag.name}@v{tag.number} is lost or another")
    return found


@dataclass
class Census:
    """How many crash states were looked at; equal states with equal promises are recovered once."""

    check: Callable[[Image, Acks], list[str]]
    states: int = 0
    known: dict[int, list[str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def look(self, image: Image, acks: Acks) -> None:
        self.states += 1
        promised = tuple(m.commit_id for m in acks.versions) + tuple(f"{t.name}{t.number}" for t in acks.tags)
        visible = tuple(entry for entry in image if "/tmp/" not in entry[0])
        key = hash((visible, promised))
        if key not in self.known:
            self.known[key] = self.check(image, acks)
        self.violations += self.known[key]


def power_losses(seen: list[Moment], share: int = 1) -> Iterator[tuple[Image, Acks]]:
    """The crash states after each moment, a fixed 1 in ``share`` of them."""
    for number, moment in enumerate(seen):

        def wanted(index: int, number: int = number) -> bool:
            return share == 1 or zlib.crc32(f"{number}:{index}".encode()) % share == 0

        for image in after_power_loss(moment.state, wanted):
            yield image, moment.acks


def made(mutant: str) -> SimulatedFileSystem:
    """A disk with an empty store that was made by a sound process: a mutant may only break what comes after."""
    fs = disk()
    Store.open(ROOT, fs=fs)
    return SimulatedFileSystem(copied(fs.root), mutant)


def one_phase(fs: SimulatedFileSystem, *, stop: bool) -> Census:
    """Power loss after every operation of one writer."""
    census = Census(problems)
    for image, acks in power_losses(moments(fs, Acks())):
        census.look(image, acks)
        if stop and census.violations:
            break
    return census


def two_phases(fs: SimulatedFileSystem, *, stop: bool, share: int) -> Census:
    """SIGKILL after operation i, a successor works on what the page cache shows, power loss after its operation j."""
    census = Census(problems)
    for killed in moments(fs, Acks()):
        successor = SimulatedFileSystem(copied(killed.state), fs.mutant)
        for image, acks in power_losses(moments(successor, killed.acks.copy(), redo), share):
            census.look(image, acks)
            if stop and census.violations:
                return census
    return census


def test_power_loss_after_every_operation_loses_nothing_acknowledged() -> None:
    census = one_phase(disk(), stop=False)
    print(f"\none phase: {census.states} states, {len(census.known)} distinct")
    assert census.violations == []
    assert census.states >= 700


def test_a_successor_of_a_killed_writer_may_lose_power_at_any_time() -> None:
    census = two_phases(disk(), stop=False, share=2)
    print(f"\ntwo phases: {census.states} states, {len(census.known)} distinct")
    assert census.violations == []
    assert census.states >= 17_500


MUTANTS = (
    "no fsync of data",
    "no fsync of manifests",
    "no fsync of object folders",
    "no fsync of new folders' parents",
    "no fsync of the log",
    "no fsync when rejoining",
    "skip if the name exists",
)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_protocol_with_one_promise_broken_is_caught(mutant: str) -> None:
    census = one_phase(made(mutant), stop=True)
    if not census.violations:
        census = two_phases(made(mutant), stop=True, share=4)
    print(f"\n{mutant}: caught after {census.states} states: {census.violations[:1]}")
    assert census.violations, f"the mutant {mutant!r} passed {census.states} crash states unnoticed"


def collect_garbage(fs: SimulatedFileSystem, acks: Acks) -> None:
    """Removes the version that no tag reaches and the objects that only it named."""
    store = Store.open(ROOT, fs=fs)
    report = store.gc_execute(store.gc_plan(keep_days=0, grace_hours=0))
    assert len(report.versions) == 1
    assert report.objects


def garbage(mutant: str) -> tuple[SimulatedFileSystem, Acks]:
    """A durable store with a tagged chain and one version beside it."""
    fs, acks = disk(), Acks()
    work(fs, acks)
    store = Store.open(ROOT, fs=fs)
    keep_where(store, acks.versions[0].ref, [True, True], at_least=1)
    return SimulatedFileSystem(copied(fs.root), mutant), acks


@pytest.mark.parametrize(
    "mutant", ["", "no fsync when rejoining"], ids=["sound", "objects go before manifests are gone"]
)
def test_power_loss_during_gc_leaves_no_version_with_half_of_its_objects(mutant: str) -> None:
    fs, acks = garbage(mutant)
    census = Census(lambda image, acks: broken(Store.open(ROOT, fs=mounted(image)), acks))
    for image, promised in power_losses(moments(fs, acks, collect_garbage)):
        census.look(image, promised)
    assert bool(census.violations) == bool(mutant)
    assert census.states >= 100
