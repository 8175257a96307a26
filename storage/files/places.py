"""Where a store lies: a folder, or ``s3://bucket/prefix`` with a folder of its own on this machine for what is local.

A store on object storage keeps its record there (versions, objects, tags, receipts). Beside it, on each machine, lie the
cache of objects, the calls that were paid for, logs of runs and trained models: in
``$PROVENDER_HOME/s3/<bucket>-<digest of endpoint, bucket and prefix>/``, ``~/.local/state/provender`` unless that is set.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from schemas.errors import BadName, UsageError

_ADDRESS = re.compile(r"s3:/{1,2}([^/]*)/?(.*)", re.DOTALL)  # one slash: what a Path makes of two
_OTHER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(/|$)")  # gs://…, file:///…, https://…, and s3:// without a bucket
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,127}")
_YES = frozenset(("1", "true", "yes", "on"))


@dataclass(frozen=True)
class S3Place:
    """A bucket, a prefix in it (may be empty) and the endpoint they are reached at (empty: AWS by region)."""

    bucket: str
    prefix: str
    endpoint: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def folder(self) -> Path:
        """Where this machine keeps what is beside the record: its cache, its paid calls, its runs and models."""
        named = hashlib.sha256(f"{self.endpoint}\n{self.bucket}\n{self.prefix}".encode()).hexdigest()[:12]
        home = Path(os.environ.get("PROVENDER_HOME") or Path.home() / ".local/state/provender")
        return home.absolute() / "s3" / f"{self.bucket}-{named}"


def s3_place(store: str | Path) -> S3Place | None:
    """The place on object storage that an address means; None for a folder.

    The endpoint is that of ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or ``AWS_ENDPOINT``. Raises ``BadName`` for a
    bucket or prefix that is none and for any other kind of address, and ``UsageError`` for an endpoint that is none or is
    not allowed.
    """
    found = _ADDRESS.fullmatch(str(store))
    if found is None:
        if _OTHER.match(str(store)) and not Path(store).exists():  # it would become a folder `gs:` here
            raise BadName(f"{str(store)[:80]!a} is no place for a store; give a folder, or s3://bucket/prefix")
        return None
    bucket, prefix = found[1], found[2].strip("/")
    if "@" in bucket:
        raise BadName("a store's address holds no credentials; write s3://bucket/prefix and set AWS_ACCESS_KEY_ID")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise BadName(f"{bucket[:80]!a} is no bucket name; a store's address is s3://bucket/prefix")
    for segment in prefix.split("/") if prefix else ():
        if not _SEGMENT.fullmatch(segment):
            raise BadName(
                f"{segment[:80]!a} in s3://{bucket}/… cannot be used; a prefix is of letters, digits, . _ = -"
            )
    return S3Place(bucket, prefix, _endpoint())


def local_folder(store: str | Path) -> Path:
    """Where this machine keeps what is not the record: the store's own folder, or the one beside an S3 store."""
    place = s3_place(store)
    return place.folder() if place else Path(store).resolve()


def address(store: str | Path) -> str:
    """The store's address for another process: an absolute path, or ``s3://…``."""
    place = s3_place(store)
    return str(place) if place else str(Path(store).resolve())


def shown(store: str | Path) -> str:
    """The store as a person wrote it: a Path makes one slash of the two in ``s3://``."""
    found = _ADDRESS.fullmatch(str(store))
    return f"s3://{found[1].rpartition('@')[2]}/{found[2]}".rstrip("/") if found else str(store)


def _endpoint() -> str:
    named = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    if not named:
        return ""
    parts = urlsplit(named)
    if parts.username or parts.password:
        raise UsageError("the endpoint of the object storage holds credentials; set AWS_ACCESS_KEY_ID instead")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise UsageError(f"AWS_ENDPOINT_URL is {named[:80]!a}; it must be https://host or https://host:port")
    if parts.scheme == "http" and not http_allowed():
        raise UsageError(
            f"AWS_ENDPOINT_URL is {named[:80]!a}: data and signatures would travel in the clear; "
            "use https, or set AWS_ALLOW_HTTP=true for a server on this machine or a network of your own"
        )
    return named.rstrip("/")


_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def http_allowed() -> bool:
    """Whether ``AWS_ALLOW_HTTP`` says so."""
    return os.environ.get("AWS_ALLOW_HTTP", "").strip().lower() in _YES
