"""What the sandbox costs per program: each kind against the same interpreter without one, and programs per second.

python -m benchmarks sandbox
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from backends.protocols import Program
from backends.sandbox.bubblewrap import BubblewrapSandbox
from backends.sandbox.landlock import LandlockSandbox
from schemas.errors import BackendError

SOURCE = "def double(x):\n    return 2 * x\n\nassert double(2) == 4\n"
ONE_BY_ONE, TOGETHER = 40, 120


def main() -> None:
    """Prints milliseconds per program, the ratio to no sandbox, and programs per second on all cores."""
    bare = bare_seconds()
    print(f"no sandbox (python -I -S)   {bare * 1000:7.1f} ms per program, median of {ONE_BY_ONE}")
    for kind in (BubblewrapSandbox, LandlockSandbox):
        name, cores = kind.model_fields["backend"].default, os.cpu_count() or 1
        try:
            started = time.perf_counter()
            engine = kind(workers=cores).open()
            opened = time.perf_counter() - started
        except BackendError as error:
            print(f"{name:27s} not measured: {error}")
            continue
        times: list[float] = []
        for _ in range(ONE_BY_ONE):
            started = time.perf_counter()
            (ran,) = engine.run([Program(SOURCE)])
            times.append(time.perf_counter() - started)
            assert ran.ok, ran
        started = time.perf_counter()
        assert all(ran.ok for ran in engine.run([Program(f"{SOURCE}# {i}\n") for i in range(TOGETHER)]))
        rate, each = TOGETHER / (time.perf_counter() - started), statistics.median(times)
        print(
            f"{name:27s} {each * 1000:7.1f} ms per program ({each / bare:.2f}x, +{(each - bare) * 1000:.1f} ms); "
            f"{rate:.1f} programs/s with {cores} workers; opened and tried in {opened:.2f} s"
        )


def bare_seconds() -> float:
    """Median wall time of the program in a child of its own, without any confinement."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ONE_BY_ONE):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-S", "-c", SOURCE], cwd=folder, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
