"""A small S3 server that keeps its promises, or breaks exactly those that a test names.

It speaks what an object store must: PUT with If-None-Match, GET with ranges, HEAD, LIST version 2 in pages, DELETE one and
many, multipart uploads; signatures (SigV4) and checksums are checked. Objects live in memory; every request is counted.
A `Fault` says what goes wrong, where and how often. `python -m tests.storage.s3_server` runs it by itself.
"""

import argparse
import base64
import hashlib
import hmac
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

KEY_ID, SECRET = "PROVENDERTESTKEY", "a-secret/that+nobody=may-see"
BUCKET = "bucket"


@dataclass
class Fault:
    """``times`` requests of this method whose key contains ``where`` go wrong: the ``every``-th of those that match.

    ``how``: a status such as ``500`` (not applied) · ``applied 500`` (done, but says so) · ``drop`` (connection closed) ·
    ``applied drop`` (done, then the connection closed) · ``stall`` (the body is read, ``reached`` is set, nothing more).
    """

    how: str
    method: str = "PUT"
    where: str = ""
    times: int = 1
    every: int = 1
    matched: int = 0
    reached: threading.Event = field(default_factory=threading.Event)


@dataclass
class Kept:
    """An object as it lies there."""

    data: bytes
    etag: str
    modified: float


@dataclass
class S3:
    """One bucket, and what goes wrong with it."""

    objects: dict[str, Kept] = field(default_factory=dict[str, Kept])
    uploads: dict[str, tuple[str, dict[int, bytes]]] = field(default_factory=dict[str, tuple[str, dict[int, bytes]]])
    faults: list[Fault] = field(default_factory=list[Fault])
    honours_if_none_match: bool = True
    page: int = 1000
    delay: float = 0.0  # seconds before every answer, as a network has
    read_only: bool = False
    seen: Counter[str] = field(default_factory=Counter[str])
    before: Callable[[str, str], None] | None = None  # called with method and key before a request is served
    lock: threading.Lock = field(default_factory=threading.Lock)
    address: str = ""

    def age(self, seconds: float) -> None:
        """Everything in the bucket as if it had last been written that long ago."""
        with self.lock:
            for kept in self.objects.values():
                kept.modified -= seconds

    def fault(self, method: str, key: str) -> Fault | None:
        """The fault that hits this request, if one does."""
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.where in key and fault.times:
                    fault.matched += 1
                    if fault.matched % fault.every == 0:
                        fault.times -= 1
                        return fault
        return None

    def environment(self) -> dict[str, str]:
        """The AWS_* variables of a client that may use it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at ``S3.seen``."""

    def _serve(self) -> None:
        s3 = self.server.s3
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, self.key = unquote(parts.path).lstrip("/").partition("/")
        if self.path == "/":  # not S3: how many requests of each kind there were
            self._answer(200, json.dumps(s3.seen).encode())
            return
        time.sleep(s3.delay)
        if s3.before is not None:
            s3.before(self.command, self.key)
        fault = s3.fault(self.command, self.key)
        stalled = fault is not None and fault.how == "stall"
        self.body = self._body(half=stalled)
        s3.seen[self.command] += 1
        if fault is not None and stalled:
            fault.reached.set()
            time.sleep(30)
            self.close_connection = True
            return
        if fault is not None and not fault.how.startswith("applied"):
            if fault.how == "drop":
                self.close_connection = True
            else:
                self._refuse(int(fault.how), _CODES.get(int(fault.how), "InternalError"))
            return
        self.mute = fault is not None
        if not _signed(self, parts.path, parts.query):
            self._refuse(403, "SignatureDoesNotMatch", more=f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>")
        elif bucket != BUCKET:
            self._refuse(404, "NoSuchBucket")
        elif s3.read_only and self.command in ("PUT", "POST", "DELETE"):
            self._refuse(403, "AccessDenied")
        else:
            getattr(self, f"_{self.command.lower()}")(s3)
        if fault is not None:
            self.mute = False
            if fault.how == "applied drop":
                self.close_connection = True
            else:
                self._refuse(int(fault.how.split()[1]), "InternalError")

    def _body(self, *, half: bool) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length // 2 if half else length)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        if self.mute:
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    mute = False

    def _refuse(self, status: int, code: str, more: str = "") -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message>{more}</Error>"
        self._answer(status, text.encode(), Content_Type="application/xml")

    def _put(self, s3: S3) -> None:
        claimed = self.headers.get("x-amz-checksum-sha256")
        if claimed and claimed != base64.b64encode(hashlib.sha256(self.body).digest()).decode():
            self._refuse(400, "BadDigest")
            return
        etag = f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"'
        with s3.lock:
            if "uploadId" in self.query:
                upload = s3.uploads.get(self.query["uploadId"])
                if upload is not None:
                    upload[1][int(self.query["partNumber"])] = self.body
                status = 200 if upload is not None else 404
            elif self.headers.get("If-None-Match") == "*" and s3.honours_if_none_match and self.key in s3.objects:
                status = 412
            else:
                s3.objects[self.key] = Kept(self.body, etag, time.time())
                status = 200
        if status == 200:
            self._answer(200, ETag=etag)
        else:
            self._refuse(status, _CODES[status])

    def _post(self, s3: S3) -> None:
        if "delete" in self.query:
            keys = [unquote(key) for key in re.findall(r"<Key>(.*?)</Key>", self.body.decode())]
            with s3.lock:
                for key in keys:
                    s3.objects.pop(key, None)
            gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            self._answer(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
        elif "uploads" in self.query:
            with s3.lock:
                number = f"upload-{len(s3.uploads)}-{time.time_ns()}"
                s3.uploads[number] = (self.key, {})
            named = f"<Bucket>{BUCKET}</Bucket><Key>{escape(self.key)}</Key><UploadId>{number}</UploadId>"
            self._answer(200, f"<InitiateMultipartUploadResult>{named}</InitiateMultipartUploadResult>".encode())
        else:
            with s3.lock:
                found = s3.uploads.pop(self.query["uploadId"], None)
                if found is not None:
                    data = b"".join(found[1][number] for number in sorted(found[1]))
                    etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}-{len(found[1])}"'
                    s3.objects[found[0]] = Kept(data, etag, time.time())
            if found is None:
                self._refuse(404, "NoSuchUpload")
            else:
                named = f"<Key>{escape(self.key)}</Key><ETag>{escape(etag)}</ETag>"
                self._answer(200, f"<CompleteMultipartUploadResult>{named}</CompleteMultipartUploadResult>".encode())

    def _delete(self, s3: S3) -> None:
        with s3.lock:
            if "uploadId" in self.query:
                s3.uploads.pop(self.query["uploadId"], None)
            else:
                s3.objects.pop(self.key, None)
        self._answer(204)

    def _get(self, s3: S3) -> None:
        if not self.key:
            self._list(s3)
            return
        with s3.lock:
            kept = s3.objects.get(self.key)
        if kept is None:
            self._refuse(404, "NoSuchKey")
            return
        about = {"ETag": kept.etag, "Last_Modified": formatdate(kept.modified, usegmt=True)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.command == "HEAD":
            self._answer(200, Content_Length=str(len(kept.data)), **about)
        elif wanted:
            start, end = int(wanted[1]), min(int(wanted[2]), len(kept.data) - 1)
            about["Content_Range"] = f"bytes {start}-{end}/{len(kept.data)}"
            self._answer(206, kept.data[start : end + 1], **about)
        else:
            self._answer(200, kept.data, **about)

    _head = _get

    def _list(self, s3: S3) -> None:
        prefix, delimiter = self.query.get("prefix", ""), self.query.get("delimiter", "")
        after = max(self.query.get("continuation-token", ""), self.query.get("start-after", ""))
        with s3.lock:
            found = sorted((key, kept) for key, kept in s3.objects.items() if key.startswith(prefix))
        contents: list[str] = []
        folders: list[str] = []
        last, more = "", False
        for key, kept in found:
            rest = key[len(prefix) :]
            folder = prefix + rest.partition(delimiter)[0] + delimiter if delimiter and delimiter in rest else ""
            name = folder or key
            if name <= after or name in folders[-1:]:
                continue
            if len(contents) + len(folders) == s3.page:
                more = True
                break
            last = name
            if folder:
                folders.append(folder)
            else:
                when = (
                    time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(kept.modified))
                    + f".{int(kept.modified % 1 * 1000):03}Z"
                )
                contents.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified><ETag>{escape(kept.etag)}"
                    f"</ETag><Size>{len(kept.data)}</Size></Contents>"
                )
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        groups = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        text = (
            f"<ListBucketResult><Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(contents)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(contents)}{groups}</ListBucketResult>"
        )
        self._answer(200, text.encode(), Content_Type="application/xml")


_CODES = {404: "NoSuchUpload", 409: "ConditionalRequestConflict", 412: "PreconditionFailed", 503: "SlowDown"}


def _signed(request: BaseHTTPRequestHandler, path: str, query: str) -> bool:
    """Whether the request carries a SigV4 signature made with our secret."""
    said = request.headers.get("Authorization", "")
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+)/([^/]+)/s3/aws4_request, *SignedHeaders=([^,]+), *Signature=(\w+)",
        said,
    )
    if found is None or found[1] != KEY_ID:
        return False
    _, day, region, names, signature = found.groups()
    headers = "".join(f"{name}:{' '.join((request.headers.get(name) or '').split())}\n" for name in names.split(";"))
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(query, keep_blank_values=True))
    canonical = "\n".join(
        [
            request.command,
            quote(unquote(path), safe="/-_.~"),
            "&".join(f"{k}={v}" for k, v in pairs),
            headers,
            names,
            request.headers.get("x-amz-content-sha256", ""),
        ]
    )
    scope = f"{day}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{request.headers.get('x-amz-date')}\n{scope}\n{hashed}"
    key = f"AWS4{SECRET}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(hmac.new(key, text.encode(), hashlib.sha256).hexdigest(), signature)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.s3 = S3(address=f"http://127.0.0.1:{self.server_address[1]}")

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(port: int = 0) -> Generator[S3, None, None]:
    """The server in a thread of this process."""
    server = _Server(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.s3
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    """Serve until killed; the address is printed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every answer")
    asked = parser.parse_args()
    with serving(asked.port) as s3:
        s3.delay = asked.delay
        print(s3.address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
