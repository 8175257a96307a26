"""Answers that outlive the process which worked them out: small files in a folder of this user's, never in the store.

Versions are immutable, so what was once counted of one is true for ever. Where a folder was named (``keep_in``: `provender
serve` does), arrays and figures are looked up there first, and laid down there when they had to be worked out. It is a
cache and nothing else: a file that is damaged, of other code or of another shape is worked out again, a folder that
cannot be written is done without, and the files that were used longest ago go when there are too many bytes. Of a version
whose objects are gone or shorter than its manifest says, nothing is taken from here: its page names the damage.
"""

import hashlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from schemas.lineage import DatasetRef, Manifest
from storage.questions.view import View
from storage.seek import Reader

T = TypeVar("T")

#: Bytes kept in the folder, and the least seconds of work that are worth a file.
MOST_BYTES = 4 << 30
LEAST_SECONDS = 0.002
_MAGIC = b"PVKEPT01"
_ALIGN = 64
_MISSING = object()
_WRITTEN_BETWEEN_SWEEPS = 32

log = logging.getLogger("provender")


class _Unkept(Exception):
    """A value, or a file, that is not of a kind that is kept."""


class Shelf:
    """Values by key in a folder, which need not exist yet."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._written = 0
        self._refused = False

    def get(self, key: str) -> Any:
        """What was kept under the key, or ``_MISSING``."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                value = _decoded(file.read(), key)
            os.utime(path)  # used now: the last to go
        except FileNotFoundError:
            return _MISSING
        except Exception as error:
            log.debug("%s is worked out again: %s", path.name, error)
            with suppress(OSError):
                path.unlink()
            return _MISSING
        return value

    def put(self, key: str, value: Any) -> None:
        """Keeps the value if it is of a kind that can be kept and the folder can be written."""
        if self._refused:
            return
        half = self.folder / f"{secrets.token_hex(8)}.tmp"
        try:
            data = _encoded(key, value)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with half.open("xb") as file:
                file.writelines(data)
            half.replace(self._path(key))
            self._written += 1
            if self._written % _WRITTEN_BETWEEN_SWEEPS == 1:
                self._sweep()
        except _Unkept:
            return
        except OSError as error:
            self._refused = True
            log.debug("nothing is kept in %s: %s", self.folder, error)
            with suppress(OSError):
                half.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(f"{_code()}\0{key}".encode()).hexdigest()[:40]

    def _sweep(self) -> None:
        """Removes what was used longest ago until the rest is small enough, and what a dead process left half-written."""
        seen: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(".tmp") and time.time() - found.st_mtime > 3600:
                        os.unlink(entry.path)
                    else:
                        seen.append((found.st_mtime, found.st_size, entry.path))
        over = sum(size for _, size, _ in seen) - self.most_bytes
        for _, size, path in sorted(seen):
            if over <= 0:
                break
            with suppress(OSError):
                os.unlink(path)
            over -= size


_shelf: Shelf | None = None
_sound: dict[str, bool] = {}
_lock = threading.Lock()


def keep_in(folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
    """From now on this process keeps answers in the folder; None: nowhere, as it began."""
    global _shelf
    with _lock:
        _shelf = None if folder is None else Shelf(folder, most_bytes)
        _sound.clear()


def lasting(reader: Reader, manifests: Sequence[Manifest], key: Sequence[object], work: Callable[[], T]) -> T:
    """The value worked out by ``work``, or what an earlier process worked out under the same key.

    ``key`` must name immutable things alone (commits, digests, names of columns); ``manifests`` are the versions whose
    objects must still be there.
    """
    shelf = _shelf
    if shelf is None or not all(_whole(reader, manifest) for manifest in manifests):
        return work()
    named = repr(tuple(str(one) for one in key))
    value = shelf.get(named)
    if value is not _MISSING:
        return value
    began = time.perf_counter()
    value = work()
    if time.perf_counter() - began >= LEAST_SECONDS:
        shelf.put(named, value)
    return value


def _whole(reader: Reader, manifest: Manifest) -> bool:
    """Whether every object of a version is there with its length; looked at once by a process, as its answers are."""
    which = f"{reader.store.root} {manifest.commit_id}"
    known = _sound.get(which)
    if known is None:
        disk = reader.store.disk
        try:
            known = all(
                disk.fs.size(disk.object_path(part.sha256)) == part.size_bytes
                for parts in manifest.parts.values()
                for part in parts
            )
        except OSError:
            known = False
        _sound[which] = known
    return known


_code_digest: str | None = None


def _code() -> str:
    """A digest of the code that works answers out, by size and time of its files: other code keeps files of its own."""
    global _code_digest
    if _code_digest is None:
        home = Path(__file__).resolve().parents[2]
        found = hashlib.sha256()
        for path in sorted([*(home / "storage").rglob("*.py"), *(home / "schemas").glob("*.py"),
                            *(home / "backends" / "embed").glob("*.*")]):  # fmt: skip
            seen = path.stat()
            found.update(f"{path.relative_to(home)} {seen.st_size} {seen.st_mtime_ns}\n".encode())
        _code_digest = found.hexdigest()
    return _code_digest


# ---- how a value becomes bytes: a head in JSON that says its shape, then the bytes of its arrays


def _encoded(key: str, value: Any) -> list[bytes | memoryview]:
    held: list[np.ndarray[Any, Any]] = []
    shape = _shape(value, held)
    arrays = [np.ascontiguousarray(array) for array in held]
    sizes = [{"dtype": a.dtype.str, "shape": a.shape, "sum": _sum(a)} for a in arrays]
    head = json.dumps({"key": key, "value": shape, "arrays": sizes}).encode()
    head += b" " * (-(len(_MAGIC) + 40 + len(head)) % _ALIGN)
    data: list[bytes | memoryview] = [
        _MAGIC, len(head).to_bytes(8, "little"), hashlib.sha256(head).digest(), head,
    ]  # fmt: skip
    for array in arrays:
        data += [array.reshape(-1).view(np.uint8).data, b"\0" * (-array.nbytes % _ALIGN)]
    return data


def _decoded(data: bytes, key: str) -> Any:
    """The value of a file; raises where anything about it is not as it was written."""
    start = len(_MAGIC) + 40
    length = int.from_bytes(data[len(_MAGIC) : len(_MAGIC) + 8], "little")
    head = data[start : start + length]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(head).digest() != data[len(_MAGIC) + 8 : start]:
        raise _Unkept("its head is damaged")
    told = json.loads(head)
    if told["key"] != key:
        raise _Unkept("it answers another question")
    at = start + length
    held: list[np.ndarray[Any, Any]] = []
    for one in told["arrays"]:
        kind = np.dtype(one["dtype"])
        count = int(np.prod(one["shape"], dtype=np.int64))
        array = (np.frombuffer(data, kind, count, at) if count else np.zeros(0, kind)).reshape(one["shape"])
        if _sum(array) != one["sum"]:
            raise _Unkept("an array is damaged")
        held.append(array)
        at += array.nbytes + (-array.nbytes % _ALIGN)
    if at != len(data):
        raise _Unkept("it has another length")
    return _value(told["value"], held)


def _sum(array: np.ndarray[Any, Any]) -> int:
    """A checksum as fast as memory: the sum of its words, and that of its last bytes."""
    flat = array.reshape(-1).view(np.uint8)
    words = len(flat) // 8 * 8
    return int(flat[:words].view(np.uint64).sum(dtype=np.uint64)) ^ int(flat[words:].sum(dtype=np.uint64))


def _shape(value: Any, held: list[np.ndarray[Any, Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise _Unkept(str(value.dtype))
        held.append(value)
        return {"array": len(held) - 1}
    if isinstance(value, DatasetRef):
        return {"ref": str(value)}
    if isinstance(value, View):
        name, module = type(value).__name__, type(value).__module__
        told = {"view": name, "of": module, "fields": value.model_dump(mode="json")}
        if _views().get((module, name)) is not type(value) or _value(told, []) != value:
            raise _Unkept(name)
        return told
    if isinstance(value, tuple):
        return {"tuple": [_shape(one, held) for one in value]}
    if isinstance(value, list):
        return {"list": [_shape(one, held) for one in value]}
    if isinstance(value, dict):
        return {"dict": [[_shape(k, held), _shape(one, held)] for k, one in value.items()]}
    raise _Unkept(type(value).__name__)


def _value(shape: Any, held: Sequence[np.ndarray[Any, Any]]) -> Any:
    if not isinstance(shape, dict):
        return shape
    if "array" in shape:
        return held[shape["array"]]
    if "ref" in shape:
        return DatasetRef.parse(shape["ref"])
    if "view" in shape:
        return _views()[shape["of"], shape["view"]].model_validate(shape["fields"])
    if "tuple" in shape:
        return tuple(_value(one, held) for one in shape["tuple"])
    if "list" in shape:
        return [_value(one, held) for one in shape["list"]]
    return {_value(key, held): _value(one, held) for key, one in shape["dict"]}


def _views() -> dict[tuple[str, str], type[View]]:
    """The answers of this program that are loaded, by module and name: a file can name no other class."""
    found: dict[tuple[str, str], type[View]] = {}
    left: list[type[View]] = [View]
    while left:
        for kind in left.pop().__subclasses__():
            found[kind.__module__, kind.__name__] = kind
            left.append(kind)
    return found
