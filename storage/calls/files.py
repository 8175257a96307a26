"""The call cache as a file: answers carried from one store to another, verified before the first one is taken.

Format ``provender-calls`` 1: UTF-8 JSON lines, compressed with zstandard where the name ends in ``.zst``::

    {"format": "provender-calls", "version": 1}
    {"key": "<32 hex digits>", "kind": "generate", "model": "…", "request": "<JSON text>", "reply": "…", …}
    …
    {"calls": 2, "sha256": "<of all bytes before this line>"}

A call has the fields of ``Stored``; ``payload`` (packed log-probabilities) is base64. Fields that are null, and
``message`` where it is empty, are left out. Calls stand in the order of their keys, so equal caches give equal files.
"""

import base64
import binascii
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from backends.protocols import FailureClass
from schemas.errors import MissingSource, NewerStore, StoreUnwritable, UnreadableSource, UntrustedSource, UsageError
from storage.calls.cache import CallCache, Stored
from storage.calls.keys import is_utf8

FORMAT = "provender-calls"
VERSION = 1
#: A longer line is no call: replies are capped far below.
LONGEST_LINE = 64 * 2**20
_GROUP = 500

#: Told how many calls are through.
Told = Callable[[int], None]


class Exported(BaseModel):
    """What became of an export: calls written, and the SHA-256 over them."""

    path: str
    calls: int
    sha256: str
    size_bytes: int


class Imported(BaseModel):
    """What became of an import. ``differing``: another answer was here already; ours stays."""

    path: str
    calls: int
    added: int
    same: int
    differing: int
    replaced_failures: int


class CallLine(BaseModel):
    """One call of a file, every field checked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    key: str = Field(pattern=r"^[0-9a-f]{32}$")
    kind: Literal["generate", "score"]
    model: str = Field(max_length=1000)
    request: str | None = None
    reply: str
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls", "error"]
    prompt_tokens: int = Field(ge=0, lt=2**62)
    completion_tokens: int = Field(ge=0, lt=2**62)
    cost_usd: float | None = Field(None, ge=0, allow_inf_nan=False)
    attempts: int = Field(ge=1, lt=2**31)
    failure: FailureClass | None = None
    message: str = Field("", max_length=4000)
    payload: str | None = None

    @field_validator("model", "request", "reply", "message")
    @classmethod
    def _can_be_stored(cls, value: str | None) -> str | None:
        if value is not None and not is_utf8(value):
            raise ValueError("holds half a character (a lone surrogate)")
        return value

    @field_validator("payload")
    @classmethod
    def _is_packed(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                raw = base64.b64decode(value, validate=True)
            except binascii.Error as error:
                raise ValueError("payload is not base64") from error
            if not raw or raw[0] > 3 or (len(raw) - 1) % (4 if raw[0] & 1 else 8):
                raise ValueError("payload holds no log-probabilities")
        return value

    def stored(self) -> Stored:
        """As the cache keeps it."""
        values: dict[str, Any] = self.model_dump()
        values["key"] = bytes.fromhex(self.key)
        values["payload"] = None if self.payload is None else base64.b64decode(self.payload)
        return Stored(**values)


def export_calls(cache: CallCache, path: Path, *, failures: bool = True, told: Told = lambda done: None) -> Exported:
    """Write every stored call (without ``failures``: every answer) to a new file, which appears whole or not at all.

    Raises ``UsageError`` where the file exists, ``StoreUnwritable`` where it cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} exists; an export never writes over a file, give another name")
    cache.flush()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    digest, count = hashlib.sha256(), -1  # the head is no call
    try:
        with partial.open("xb", buffering=2**20) as file:
            pack = _packer(path)
            for line in _lines(cache, failures):
                file.write(pack.compress(line) if pack else line)
                digest.update(line)
                count += 1
                told(count)
            foot = _json({"calls": count, "sha256": digest.hexdigest()})
            file.write(pack.compress(foot) + pack.flush() if pack else foot)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise StoreUnwritable(
            f"{path} cannot be written ({error.strerror}); give a folder that you may write"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return Exported(path=str(path), calls=count, sha256=digest.hexdigest(), size_bytes=path.stat().st_size)


def import_calls(cache: CallCache, path: Path, *, told: Told = lambda done: None) -> Imported:
    """Take the calls of a file that are not here yet; nothing is taken from a file that is not whole and sound.

    An answer that is here is never changed; only a stored failure gives way to an answer. Raises ``MissingSource``,
    ``UnreadableSource`` (not such a file, torn, altered; with the line), ``UntrustedSource`` (a line without end) and
    ``NewerStore``.
    """
    whole = _verified(path)
    counts = {"added": 0, "same": 0, "differing": 0, "replaced_failures": 0}
    done = 0
    digest = hashlib.sha256()
    group: list[Stored] = []

    def take() -> None:
        here = cache.lookup([call.key for call in group])
        for call in group:
            counts[_fate(here.get(call.key), call)] += 1
            cache.put(call)
        cache.flush()

    for line, call in _calls(path, digest):
        if done == whole[0]:
            raise UnreadableSource(f"{path} changed while it was read, at line {line}; import it again")
        group.append(call)
        done += 1
        if len(group) == _GROUP:
            take()
            group.clear()
            told(done)
    take()
    if digest.hexdigest() != whole[1]:
        raise UnreadableSource(f"{path} changed while it was read; import it again")
    return Imported(path=str(path), calls=done, **counts)


def _fate(here: Stored | None, call: Stored) -> str:
    if here is None:
        return "added"
    if here.failure is not None and call.failure is None:
        return "replaced_failures"
    same = (here.reply, here.failure, here.payload) == (call.reply, call.failure, call.payload)
    return "same" if same else "differing"


def _lines(cache: CallCache, failures: bool) -> Iterator[bytes]:
    yield _json({"format": FORMAT, "version": VERSION})
    names = [field.name for field in fields(Stored)]
    for batch in cache.all():
        for call in batch:
            if call.failure is not None and not failures:
                continue
            values = {name: getattr(call, name) for name in names}
            values["key"] = call.key.hex()
            if call.payload is not None:
                values["payload"] = base64.b64encode(call.payload).decode()
            yield _json({k: v for k, v in values.items() if v is not None and (k, v) != ("message", "")})


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _verified(path: Path) -> tuple[int, str]:
    """(calls, digest) of a file of which every line is sound."""
    digest = hashlib.sha256()
    count = sum(1 for _ in _calls(path, digest))
    return count, digest.hexdigest()


def _calls(path: Path, digest: Any) -> Iterator[tuple[int, Stored]]:
    """(line number, call), with the head checked before the first and the foot after the last."""
    try:
        with path.open("rb") as raw, _unpacking(raw, path) as text:
            head = _object(path, 1, text.readline(LONGEST_LINE), digest)
            if head.get("format") != FORMAT:
                raise UnreadableSource(f"{path} is no file of calls; `provender cache export` writes one")
            if not isinstance(head.get("version"), int) or head["version"] > VERSION:
                raise NewerStore(f"{path} has version {head.get('version')!a}, this release reads 1; upgrade provender")
            number, last = 1, b""
            while line := text.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise UntrustedSource(
                        f"{path}, line {number} is longer than {LONGEST_LINE >> 20} MiB; that is no call"
                    )
                if last.startswith(b'{"key"'):
                    yield number - 1, _call(path, number - 1, last, digest)
                elif last:
                    raise UnreadableSource(f"{path}, line {number - 1} is no call; nothing was imported")
                last = line
            _check_foot(path, number, last, digest)
    except FileNotFoundError:
        raise MissingSource(f"there is no file {path}") from None
    except OSError as error:
        raise UnreadableSource(f"{path} cannot be read ({error}); give a file of `provender cache export`") from error


def _call(path: Path, number: int, line: bytes, digest: Any) -> Stored:
    try:
        return CallLine.model_validate(_object(path, number, line, digest)).stored()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableSource(f"{path}, line {number}, {place}: {first['msg']}; nothing was imported") from error


def _check_foot(path: Path, number: int, line: bytes, digest: Any) -> None:
    wanted = digest.hexdigest()
    foot = _object(path, number, line, hashlib.sha256()) if line.endswith(b"\n") else {}
    if set(foot) != {"calls", "sha256"}:
        raise UnreadableSource(f"{path} ends at line {number} without its last line: it is torn; nothing was imported")
    if foot["sha256"] != wanted or foot["calls"] != number - 2:
        raise UnreadableSource(
            f"{path} does not match the digest in its last line: it was altered; nothing was imported"
        )


def _object(path: Path, number: int, line: bytes, digest: Any) -> dict[str, Any]:
    digest.update(line)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnreadableSource(f"{path}, line {number} is no JSON ({error}); nothing was imported") from error
    if not isinstance(value, dict):
        raise UnreadableSource(f"{path}, line {number} is no JSON object; nothing was imported")
    return cast(dict[str, Any], value)


def _packer(path: Path) -> Any:
    """A compressor for names that end in ``.zst``."""
    if path.suffix != ".zst":
        return None
    import zstandard

    return zstandard.ZstdCompressor(level=6).compressobj()


def _unpacking(raw: BinaryIO, path: Path) -> Any:
    if path.suffix != ".zst":
        return io.BufferedReader(cast(Any, raw), 2**20)
    import zstandard

    return io.BufferedReader(zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(raw))
