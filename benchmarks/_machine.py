"""What a measured process used of its machine."""

import re
import resource
import sys
import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Peak resident memory of this process; what it was before ``exec`` does not count, as it does in ``ru_maxrss``."""
    if _STATUS.exists():
        return int(re.findall(r"VmHWM:\s+(\d+)", _STATUS.read_text())[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


class Watch:
    """Looks twenty times a second at this process's memory (Linux): what is its own, and what is pages of files.

    Pages of files, such as a spilled table's, count as resident but are given back when others need the room. ``phase``
    may be set at any time; the most of its own memory is kept for each.
    """

    def __init__(self) -> None:
        self.most = self.most_file = 0.0  # MiB
        self.phase, self.phases = "", dict[str, float]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05) and _STATUS.exists():
            own, pages = (int(kib) / 1024 for kib in re.findall(r"Rss(?:Anon|File):\s+(\d+)", _STATUS.read_text()))
            self.most, self.most_file = max(self.most, own), max(self.most_file, pages)
            self.phases[self.phase] = max(self.phases.get(self.phase, 0.0), own)

    def stop(self) -> float:
        """The most of its own memory that was seen, MiB."""
        self._over.set()
        self._thread.join()
        return self.most
