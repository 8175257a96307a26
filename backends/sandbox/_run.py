"""Starts confined children and ends them: wall clock, output and disk are watched from outside."""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from backends.protocols import Program, Ran
from backends.sandbox import _confine
from schemas.errors import BackendError

#: Bytes that all files of one program may hold together, and each of them.
DISK_BYTES = 16 * 2**20
_LOOK_SECONDS = 0.05

Ended = Literal["", "time", "memory", "output", "processes", "files", "forbidden"]


@dataclass(frozen=True)
class Box:
    """How children are started: a prefix of the command line (bubblewrap's), and whether Landlock holds the files."""

    prefix: Callable[[Path], Sequence[str]]
    landlock: bool
    packages: bool
    workers: int


def readable(packages: bool) -> list[str]:
    """What a Python program needs to read: the interpreter, its standard library, the C library."""
    paths = [sys.base_prefix, str(Path(sys.executable).resolve().parent), sysconfig.get_path("stdlib")]
    paths += ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    paths += ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"]
    paths += site_packages() if packages else []
    # The whole of / or /usr would hold more than Python: take the folders that are really its own.
    return [path for path in dict.fromkeys(paths) if path not in ("/", "/usr")]


def site_packages() -> list[str]:
    """Folders with the installed packages of this environment."""
    return [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]


def run_all(box: Box, programs: Sequence[Program]) -> list[Ran]:
    """Each program in a child and a folder of its own, several at a time; results in order."""
    with ThreadPoolExecutor(max(1, box.workers)) as pool:
        return list(pool.map(lambda program: run_one(box, program), programs))


def run_one(box: Box, program: Program) -> Ran:
    """One program, ended at the first ceiling it meets."""
    scratch = Path(tempfile.mkdtemp(prefix="provender-run-"))
    started = time.monotonic()
    try:
        with tempfile.TemporaryFile() as source:
            source.write(program.source.encode("utf-8", "surrogatepass"))
            source.seek(0)
            spec = {
                "fd": source.fileno(),
                "read": readable(box.packages),
                "write": [str(scratch), "/dev/null"],
                "landlock": box.landlock,
                "memory_bytes": program.memory_bytes,
                "cpu_seconds": int(program.seconds) + 2,
                "file_bytes": DISK_BYTES,
                "paths": site_packages() if box.packages else [],
            }
            words = [
                *box.prefix(scratch),
                sys.executable,
                "-I",
                "-S",
                "-B",
                str(Path(_confine.__file__)),
                json.dumps(spec),
            ]
            child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"LANG": "C.UTF-8", "HOME": str(scratch), "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
                cwd=scratch,
                start_new_session=True,
                pass_fds=[source.fileno()],
            )
            out, err, ended = _watched(child, program, scratch)
        return _told(child.returncode, out, err, ended, time.monotonic() - started)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _watched(child: "subprocess.Popen[bytes]", program: Program, scratch: Path) -> tuple[bytes, bytes, Ended]:
    """Feed and read the child until it ends or meets a ceiling; its whole process group is gone on return."""
    deadline = time.monotonic() + program.seconds
    held: dict[Any, bytearray] = {child.stdout: bytearray(), child.stderr: bytearray()}
    left = memoryview(program.stdin.encode("utf-8", "surrogatepass"))
    ended: Ended = ""
    with selectors.DefaultSelector() as ready:
        for stream in held:
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, selectors.EVENT_READ)
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        ready.register(child.stdin, selectors.EVENT_WRITE)
        looked, reading = 0.0, 2
        while reading and not ended:
            now = time.monotonic()
            if now >= deadline:
                ended = "time"
                break
            for key, _ in ready.select(min(_LOOK_SECONDS, deadline - now)):
                stream: Any = key.fileobj
                if stream is child.stdin:
                    left = _fed(child, ready, left)
                    continue
                data = stream.read(65_536)
                if not data:
                    ready.unregister(stream)
                    reading -= 1
                    continue
                held[stream] += data
                if len(held[stream]) > program.output_bytes:
                    ended = "output"
            if now - looked >= _LOOK_SECONDS:
                looked = now
                if _size(scratch) > DISK_BYTES:
                    ended = "files"
    if not ended:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            ended = "time"
    _kill_group(child)
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    most = program.output_bytes
    return bytes(held[child.stdout][:most]), bytes(held[child.stderr][:most]), ended


def _fed(child: "subprocess.Popen[bytes]", ready: selectors.BaseSelector, left: memoryview) -> memoryview:
    """Write what the child takes of its standard input; closed when all is written or nobody reads."""
    assert child.stdin is not None
    try:
        left = left[os.write(child.stdin.fileno(), left[:65_536]) :] if left else left
    except BlockingIOError:
        return left
    except BrokenPipeError:
        left = left[:0]
    if not left:
        ready.unregister(child.stdin)
        child.stdin.close()
    return left


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _told(code: int, out: bytes, err: bytes, ended: Ended, seconds: float) -> Ran:
    stdout, stderr = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    if code == _confine.REFUSED and "the sandbox could not be set up" in stderr:
        raise BackendError(f"{stderr.strip().splitlines()[-1]}; nothing was run")
    if not ended and code == -signal.SIGXCPU:
        ended = "time"
    if not ended and code not in (0, None) and stderr.rstrip().endswith("MemoryError"):
        ended = "memory"
    return Ran(code if code >= 0 and not ended else None, stdout, stderr, seconds, ended)


def probe(box: Box) -> list[str]:
    """What the box fails to hold; empty when it holds. Run before the first program of a user."""
    ran = run_one(box, Program(_PROBE, seconds=20.0))
    if ran.exit_code != 0:
        return [f"a harmless program does not run in it: {(ran.stderr or ran.ended_by).strip()[-300:]}"]
    return [line for line in ran.stdout.splitlines() if line]


_PROBE = """
import os
def breached(name, attempt):
    try:
        attempt()
    except BaseException:
        return
    print(name)
def connect():
    import _socket
    _socket.socket(2, 1)
breached("it can open /etc/passwd", lambda: open("/etc/passwd").read())
breached("it can open /proc/1/environ", lambda: open("/proc/1/environ", "rb").read())
for folder in ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/usr", "/etc"):
    breached("it can write outside of its folder, in " + folder, lambda: open(folder + "/provender-probe", "w"))
breached("it can open sockets", connect)
breached("it can start processes", lambda: os.waitpid(os.fork() or os._exit(0), 0))
breached("it can signal its parent", lambda: os.kill(os.getppid(), 0))
breached("it can change permissions", lambda: os.chmod(".", 0o777))
open("own", "w").write("x")
"""
