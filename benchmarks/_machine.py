"""What a measured process used of its machine."""

import re
import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """Peak resident memory of this process; what it was before ``exec`` does not count, as it does in ``ru_maxrss``."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
