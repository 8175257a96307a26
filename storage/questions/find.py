"""Which example does this id mean, and in which recipe's lineage? Published indexes first, then the id columns."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import MissingDataset, UsageError
from schemas.lineage import DatasetRef, Manifest, TagVersion
from storage.seek import Reader

_HEX = re.compile(r"[0-9a-f]{6,32}")


@dataclass(frozen=True)
class Place:
    """An example and where it was created."""

    id: bytes
    home: DatasetRef
    row: int


@dataclass(frozen=True)
class Scope:
    """The versions one question is about: a target with everything it came from (or the whole store)."""

    manifests: tuple[Manifest, ...]  # sources first
    target: DatasetRef | None
    tag: str | None  # name@vN of the target

    @property
    def refs(self) -> frozenset[DatasetRef]:
        """The versions as a set."""
        return frozenset(manifest.ref for manifest in self.manifests)


def id_bounds(text: str | bytes) -> tuple[bytes, bytes]:
    """Lowest and highest 16-byte id that the hex digits may mean; ``UsageError`` if they are not 6 to 32 hex digits."""
    digits = text.hex() if isinstance(text, bytes) else text.strip().lower().removeprefix("#")
    if not _HEX.fullmatch(digits):
        raise UsageError(
            f"{digits[:60]!a} is not an example id: give its first 6 to 32 hexadecimal digits; "
            '`provender query <tag> "select id from examples"` lists them'
        )
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def scope_of(reader: Reader, within: DatasetRef | str) -> Scope:
    """The lineage of one ref, tag or ``name@vN``."""
    ref = reader.store.resolve(within) if isinstance(within, str) else within
    manifests = reader.store.upstream(ref)
    reader.know(manifests)
    return Scope(tuple(manifests), ref, tag_of(reader, ref, prefer=within if isinstance(within, str) else None))


def tag_of(reader: Reader, ref: DatasetRef, prefer: str | None = None) -> str | None:
    """The newest ``name@vN`` that means this version (of the preferred name, if one was asked for)."""
    wanted = prefer.split("@")[0] if prefer else None
    named: list[TagVersion] = []
    for newest in reader.store.tags():
        named += [tag for tag in reader.store.tag_history(newest.name) if tag.ref == ref]
    named.sort(key=lambda tag: (tag.name == wanted, tag.created_at))
    return f"{named[-1].name}@v{named[-1].number}" if named else None


def scopes(reader: Reader) -> Iterator[Scope]:
    """Lineages to look in when none is named: newest tag first, then every version there is."""
    yield from tagged(reader)
    yield whole(reader)


def tagged(reader: Reader) -> Iterator[Scope]:
    """The lineage of every tag's newest version, newest first."""
    seen: set[DatasetRef] = set()
    for tag in sorted(reader.store.tags(), key=lambda tag: tag.created_at, reverse=True):
        if tag.ref not in seen:
            seen.add(tag.ref)
            manifests = reader.store.upstream(tag.ref)
            reader.know(manifests)
            yield Scope(tuple(manifests), tag.ref, f"{tag.name}@v{tag.number}")


def whole(reader: Reader) -> Scope:
    """Every version, inputs before what was made from them."""
    manifests = {manifest.ref: manifest for manifest in reader.store.versions()}
    reader.know(manifests.values())
    ordered: dict[DatasetRef, Manifest] = {}
    for manifest in manifests.values():
        stack = [manifest]
        while stack:
            top = stack[-1]
            waiting = [manifests[r] for _, r in top.step.inputs if r in manifests and r not in ordered]
            if waiting and top.ref not in ordered:
                stack += waiting
                continue
            ordered.setdefault(top.ref, top)
            stack.pop()
    return Scope(tuple(ordered.values()), None, None)


def find_example(reader: Reader, text: str | bytes, within: DatasetRef | str | None) -> tuple[Place, Scope]:
    """The example that an id or its unique prefix means, and the lineage in which it was found.

    With ``within`` only that lineage counts. Raises ``MissingDataset`` if no example has it, ``UsageError`` if several.
    """
    low, high = id_bounds(text)
    if within is not None:
        scope = scope_of(reader, within)
        found = _search(reader, scope, low, high)
        if found is None:
            raise MissingDataset(
                f"no example of {scope.tag or scope.target} or of what it came from begins with "
                f"{_shown(low, high)}; leave out `--within` to look in the whole store"
            )
        return found, scope
    for scope in scopes(reader):
        found = _search(reader, scope, low, high)
        if found is not None:
            return found, scope
    raise MissingDataset(
        f"the store has no example whose id begins with {_shown(low, high)}; "
        '`provender query <tag> "select id, messages from examples"` lists ids'
    )


def _search(reader: Reader, scope: Scope, low: bytes, high: bytes) -> Place | None:
    if low == high:
        for manifest in reversed(scope.manifests):
            if manifest.parts.get("index"):
                hits = reader.ids_between(manifest.ref, "index", low, high, limit=1)
                if hits.height:
                    home, row = reader.members_at(manifest.ref, [int(hits["position"][0])])[0]
                    return Place(low, home, row)
    found: dict[bytes, Place] = {}
    for manifest in reversed(scope.manifests):
        if not manifest.parts.get("examples"):
            continue
        hits = reader.ids_between(manifest.ref, "examples", low, high)
        for row, found_id in hits.select("position", "id").iter_rows():
            found.setdefault(found_id, Place(found_id, manifest.ref, row))
        if found and low == high:
            break
    if len(found) > 1:
        some = ", ".join(sorted(place.id.hex() for place in found.values())[:5])
        raise UsageError(f"{_shown(low, high)} is the beginning of several ids: {some}; give more digits")
    return next(iter(found.values()), None)


def _shown(low: bytes, high: bytes) -> str:
    digits = [a for a, b in zip(low.hex(), high.hex(), strict=True) if a == b]
    return "".join(digits)
