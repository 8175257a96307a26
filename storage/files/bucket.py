"""A prefix of a bucket through obstore: the six requests a store makes, with results that are certain.

``create`` is the one that matters: bytes under a name that is taken once. Whatever the server answers but "done" says
nothing by itself. 412 may mean that our own first attempt arrived and its answer was lost; obstore gives 409, a conflict
that left nothing behind, the same class as 412; a timeout or a 5xx is unknown. So the name is read back each time: it
holds our bytes (done), another's (taken), or nothing (again).

Errors name the place, the status and the service's error code, never the service's text: it may repeat an access key.
"""

import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from schemas.errors import CorruptStore, MissingExtra, StoreUnreachable, StoreUnwritable, UsageError
from storage.files.places import S3Place, http_allowed

_T = TypeVar("_T")

PIECE = 16 * 2**20  # of multipart uploads and of ranged reads
_AT_ONCE = 4
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,60})</Code>")
_PASSING = frozenset((408, 409, 412, 429))  # of 4xx: may be otherwise when asked again


@dataclass(frozen=True)
class Patience:
    """How long a request may take and how often it is made again, in seconds; reads and plain puts are safe to repeat."""

    timeout: float = 60.0
    connect: float = 10.0
    retries: int = 8
    altogether: float = 120.0

    @staticmethod
    def of_environment() -> "Patience":
        """The usual patience, with the seconds that ``PROVENDER_S3_TIMEOUT`` gives a request.

        At most ten minutes: a collector's last request must end long before its announcement is forgotten.
        """
        text = os.environ.get("PROVENDER_S3_TIMEOUT", "60")
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= 600:
            raise UsageError(f"PROVENDER_S3_TIMEOUT is {text[:40]!a}; it must be seconds, at most 600, such as 60")
        return Patience(timeout=float(text), altogether=2 * float(text))


@dataclass(frozen=True)
class Seen:
    """An object's length in bytes, when it was put by the server's clock (seconds since the epoch), its entity tag."""

    size: int
    modified: float
    tag: str = ""


class Bucket:
    """Keys are relative to the place's prefix. Any number of threads; not to be carried over a fork."""

    def __init__(self, place: S3Place, patience: Patience | None = None) -> None:
        self.place = place
        self.patience = patience or Patience.of_environment()
        self._obstore = _obstore()
        self._store = _opened(place, self.patience)

    def get(self, key: str) -> bytes:
        """All bytes of an object; ``FileNotFoundError`` if there is none."""
        return self.get_tagged(key)[0]

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """All bytes of an object and its entity tag."""

        def got() -> tuple[bytes, str]:
            answer = self._obstore.get(self._store, key)
            return bytes(answer.bytes()), str(answer.meta.get("e_tag") or "")

        return self._do("read", key, got)

    def get_into(self, key: str, sink: IO[bytes], size: int) -> str:
        """Writes an object of that size into a file; returns the SHA-256 of what came."""
        digest = hashlib.sha256()
        if size <= PIECE:
            pieces: Iterator[bytes] = iter([self.get(key)])
        else:
            pieces = self._ranges(key, size)
        for piece in pieces:
            digest.update(piece)
            sink.write(piece)
        return digest.hexdigest()

    def head(self, key: str) -> Seen | None:
        """Size and age of an object; None if there is none."""
        try:
            found = self._do("look at", key, lambda: self._obstore.head(self._store, key))
        except FileNotFoundError:
            return None
        return _seen(found)

    def put(self, key: str, data: bytes) -> None:
        """Bytes under a key, replacing; durable on return."""
        self._do("write", key, lambda: self._obstore.put(self._store, key, data, use_multipart=False), change=True)

    def put_file(self, key: str, path: Path, sha256: str) -> None:
        """A file under a key, whole or not at all, in pieces if it is large; durable on return.

        ``CorruptStore`` if the file does not have that digest: then nothing is put.
        """
        if path.stat().st_size <= PIECE:
            data = path.read_bytes()
            _must_be(hashlib.sha256(data).hexdigest(), sha256, path)
            self.put(key, data)
            return
        with path.open("rb") as file:
            _must_be(hashlib.file_digest(file, "sha256").hexdigest(), sha256, path)
        self._do(
            "write",
            key,
            lambda: self._obstore.put(
                self._store, key, path, use_multipart=True, chunk_size=PIECE, max_concurrency=_AT_ONCE
            ),
            change=True,
        )

    def create(self, key: str, data: bytes) -> bool:
        """Bytes under a key that nobody else may have taken; False if another's bytes are there."""
        deadline = time.monotonic() + self.patience.altogether
        pause = 0.02
        while True:
            try:
                self._obstore.put(self._store, key, data, mode="create", use_multipart=False)
                return True
            except self._obstore.exceptions.BaseError as error:
                if ((status := _status(error)) and status < 500 and status not in _PASSING) or status == 501:
                    self._refuse(error, "write", key, change=True)
                unknown = error
            except FileNotFoundError as error:
                self._refuse(error, "write", key, change=True)
            try:
                return self.get(key) == data
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    self._refuse(unknown, "write", key, change=True)
            time.sleep(pause * random.uniform(0.5, 1.5))  # writers that met once must not meet again
            pause = min(2 * pause, 2.0)

    def delete(self, key: str) -> None:
        """Removes a key; nothing happens if it is not there."""
        try:
            self._do("remove", key, lambda: self._obstore.delete(self._store, key), change=True)
        except FileNotFoundError:
            return

    def names(self, folder: str) -> list[str]:
        """Names directly in a folder, sorted; folders among them."""
        found = self._do("list", folder, lambda: self._obstore.list_with_delimiter(self._store, folder or None))
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

    def everything(self, folder: str) -> dict[str, Seen]:
        """Every key in a folder and below, with size and age: one request for a thousand."""

        def listed() -> dict[str, Seen]:
            return {
                entry["path"]: _seen(entry)
                for batch in self._obstore.list(self._store, folder or None)
                for entry in batch
            }

        return self._do("list", folder, listed)

    def _ranges(self, key: str, size: int) -> Iterator[bytes]:
        def piece(start: int) -> bytes:
            length = min(PIECE, size - start)
            return self._do(
                "read", key, lambda: bytes(self._obstore.get_range(self._store, key, start=start, length=length))
            )

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3-read") as pool:
            for first in range(0, size, PIECE * _AT_ONCE):  # never more than this in memory
                yield from pool.map(piece, range(first, min(size, first + PIECE * _AT_ONCE), PIECE))

    def _do(self, doing: str, key: str, request: Callable[[], _T], *, change: bool = False) -> _T:
        try:
            return request()
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                self._refuse(error, doing, key, change=change)
            raise FileNotFoundError(f"{self.place}/{key} is not there") from None
        except (self._obstore.exceptions.BaseError, OSError) as error:
            self._refuse(error, doing, key, change=change)

    def _refuse(self, error: Exception, doing: str, key: str, *, change: bool) -> NoReturn:
        where = f"{self.place}/{key}".rstrip("/")
        status, code = _status(error), _code(error)
        says = " ".join(filter(None, (f"HTTP {status}" if status else "", code)))
        server = self.place.endpoint or "AWS"
        if code == "NoSuchBucket":
            raise StoreUnreachable(
                f"there is no bucket {self.place.bucket} at {server}; make it, or name another with --store"
            ) from None
        if status in (401, 403):
            kind = StoreUnwritable if change else StoreUnreachable
            raise kind(
                f"cannot {doing} {where}: {server} refuses these credentials ({says}); check AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION and what they are allowed in this bucket"
            ) from None
        if (status and status < 500 and status not in _PASSING) or status == 501:
            kind = StoreUnwritable if change else StoreUnreachable
            raise kind(
                f"cannot {doing} {where}: {server} refuses the request ({says}); nothing was half-committed; "
                "check AWS_REGION and AWS_ENDPOINT_URL"
            ) from None
        raise StoreUnreachable(
            f"cannot {doing} {where}: {server} {f'answers {says}' if says else 'does not answer'}; nothing was "
            "half-committed; check the network, AWS_ENDPOINT_URL and the AWS_* credentials, and run again"
        ) from None


def _seen(entry: Any) -> Seen:
    return Seen(entry["size"], entry["last_modified"].timestamp(), str(entry.get("e_tag") or ""))


def _obstore() -> Any:
    try:
        import obstore
    except ImportError:
        raise MissingExtra("a store on s3:// needs obstore: pip install 'provender[s3]'") from None
    return obstore


def _opened(place: S3Place, patience: Patience) -> Any:
    """The client. Keys, region and the rest come from the AWS_* environment, which obstore reads itself."""
    config: dict[str, Any] = {
        "checksum_algorithm": "SHA256",
        "conditional_put": "etag",
        "disable_bulk_delete": True,  # not every server knows it, and names go one by one anyway
    }
    if place.endpoint:
        config["endpoint"] = place.endpoint
        named = any(os.environ.get(name) for name in _CREDENTIALS)
        if not named:
            raise UsageError(
                f"{place} needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
                "(or AWS_SKIP_SIGNATURE=true for a server that asks for none)"
            )
    from obstore.store import S3Store

    made: Any = S3Store
    try:
        return made(
            place.bucket,
            prefix=place.prefix or None,
            config=config,
            client_options={
                "allow_http": http_allowed(),
                "timeout": timedelta(seconds=patience.timeout),
                "connect_timeout": timedelta(seconds=patience.connect),
            },
            retry_config={
                "max_retries": patience.retries,
                "retry_timeout": timedelta(seconds=patience.altogether),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )
    except Exception as error:  # a malformed AWS_* variable; its text may hold the value, so only its class is told
        raise UsageError(
            f"{place} cannot be opened ({type(error).__name__}); one of the AWS_* variables is malformed"
        ) from None


_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _status(error: Exception) -> int:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else 0


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _must_be(actual: str, wanted: str, path: Path) -> None:
    if actual != wanted:
        raise CorruptStore(f"{path} changed while it was being sent: the device returns other bytes; run again")
