"""A file that C++ must decode is opened first by a disposable process under a memory cap; it may die there, not here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from schemas.errors import UnreadableSource, UntrustedSource
from schemas.sources import Limits
from storage.readers.files import DataFile

#: Bytes of file that are decoded per second at the very least (measured here: 200 to 800 MB/s).
SLOWEST = 50 << 20

#: Seconds by the clock for each second of processor time that a file is given: a busy machine is not the file's fault.
PATIENCE = 10


class Vetted(NamedTuple):
    """What the file really holds."""

    rows: int
    decoded_bytes: int
    row_bytes: int  # average of the widest thousand rows


_VETTED: dict[tuple[str, str], Vetted] = {}


def vet(file: DataFile, kind: str, limits: Limits) -> Vetted:
    """Decode the file (``parquet``, ``arrow-stream`` or ``arrow-file``) in a child process, once per content.

    Raises ``UntrustedSource`` for a bomb or a table beyond the limits, ``UnreadableSource`` for a damaged file.
    """
    key = (file.digest(), limits.model_dump_json())
    known = _VETTED.get(key)
    if known is None:
        known = _VETTED[key] = _judged(_run(file, kind, limits), file, limits)
    return known


def _run(file: DataFile, kind: str, limits: Limits) -> dict[str, Any]:
    import pyarrow

    seconds = limits.vet_seconds + file.size_bytes / SLOWEST
    packed = json.dumps(
        {
            "memory_bytes": limits.vet_memory_bytes + 2 * min(file.size_bytes, 1 << 30),
            "seconds": seconds,
            "rows": limits.max_rows,
            "columns": limits.max_columns,
            "name_bytes": limits.max_name_bytes,
            "decoded_bytes": limits.allowed_bytes(file.size_bytes),
        }
    )
    child = str(Path(__file__).with_name("vet_child.py"))
    site = str(Path(pyarrow.__file__).parent.parent)
    with file.open() as handle:
        fd = handle.fileno()
        command = [sys.executable, "-I", "-S", child, site, kind, str(fd), packed]
        try:
            done = subprocess.run(
                command, pass_fds=[fd], stdin=subprocess.DEVNULL, capture_output=True,
                timeout=PATIENCE * seconds, check=False,
                env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {
                "refuse": "untrusted",
                "place": "a decoding trial",
                "what": f"took more than {PATIENCE * seconds:.0f} s to decode",
            }
    if done.returncode == -signal.SIGXCPU:
        what = f"took more than {seconds:.0f} s of processor time to decode"
        return {"refuse": "untrusted", "place": "a decoding trial", "what": what}
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    last = done.stderr.decode(errors="replace").strip().splitlines()
    why = f"signal {-done.returncode}" if done.returncode < 0 else (last[-1][:200] if last else "no answer")
    return {"refuse": "untrusted", "place": "a decoding trial", "what": f"brought its process down ({why})"}


def _judged(facts: dict[str, Any], file: DataFile, limits: Limits) -> Vetted:
    if "refuse" not in facts:
        return Vetted(facts["rows"], facts["decoded_bytes"], facts["row_bytes"])
    what = f"{file.shown} ({file.size_bytes} bytes, {facts['place']}) {facts['what']}"
    if facts["refuse"] == "untrusted":
        raise UntrustedSource(f"{what}; nothing of it was read; export it anew if you trust where it came from")
    raise UnreadableSource(
        f"{file.shown} cannot be decoded ({facts['place']}): {facts['what']}; was it copied completely?"
    )
