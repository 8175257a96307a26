"""Thirteen attacks, every ceiling, and ordinary programs, in each kind of sandbox that this machine offers."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.protocols import Program, Sandbox
from backends.sandbox._run import Box, probe
from backends.sandbox.auto import AutoSandbox
from backends.sandbox.bubblewrap import BubblewrapSandbox
from backends.sandbox.landlock import LandlockSandbox
from schemas.errors import BackendError

KINDS = {"landlock": LandlockSandbox, "bubblewrap": BubblewrapSandbox}
SECRET = "sk-provender-test-secret"


@pytest.fixture(scope="module", params=KINDS)
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    os.environ["PROVENDER_TEST_SECRET"] = SECRET
    try:
        yield KINDS[request.param]().open()
    except BackendError as error:
        pytest.skip(f"not offered here: {error}")
    finally:
        del os.environ["PROVENDER_TEST_SECRET"]


def ran(box: Sandbox, source: str, **ceilings):
    (result,) = box.run([Program(source, **ceilings)])
    return result


def test_this_machine_offers_a_sandbox() -> None:
    assert AutoSandbox().open().kind in KINDS, "where none is offered, nothing may be run, and this must be known"


def test_an_ordinary_program_reads_its_input_uses_the_library_and_writes_in_its_folder(box: Sandbox) -> None:
    source = (
        "import json, re, math, decimal, collections, random, tempfile, threading\n"
        "open('note.txt', 'w').write('kept')\n"
        "with tempfile.TemporaryFile() as f: f.write(b'x')\n"
        "t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()\n"
        "print(json.dumps([int(x) ** 2 for x in input().split()]), open('note.txt').read())\n"
    )
    result = ran(box, source, stdin="1 2 3\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "thread\n[1, 4, 9] kept\n", "")
    assert result.ok


def test_a_programs_own_failure_is_told_and_is_not_ours(box: Sandbox) -> None:
    failed = ran(box, "assert 1 + 1 == 3, 'sums'")
    assert failed.exit_code == 1
    assert "AssertionError: sums" in failed.stderr
    assert ran(box, "def f(:").exit_code == 1
    assert ran(box, "import sys; sys.exit(7)").exit_code == 7


def test_each_program_starts_in_an_empty_folder_of_its_own(box: Sandbox) -> None:
    source = "import os; print(sorted(os.listdir('.'))); open('mine', 'w').write('x')"
    assert [one.stdout for one in box.run([Program(source)] * 3)] == ["[]\n"] * 3


# ---- the thirteen attacks of the requirement: each prints BREACH if it succeeds


def test_1_the_environment_holds_no_secret(box: Sandbox) -> None:
    assert SECRET not in ran(box, "import os; print(dict(os.environ))").stdout


def test_2_host_files_cannot_be_read(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text(SECRET)
    for path in (tmp_path / "secret.txt", Path("/etc/passwd"), Path(__file__), Path.home() / ".bashrc"):
        result = ran(box, f"print('BREACH', open({str(path)!r}).read())")
        assert "BREACH" not in result.stdout, path
        assert result.exit_code == 1


def test_3_host_files_cannot_be_written_made_or_removed(box: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    victim = tmp_path / "victim.txt"
    victim.write_text("whole")
    victim.chmod(0o666)
    for attempt in (
        f"open({str(victim)!r}, 'w').write('BREACH')",
        f"import os; os.remove({str(victim)!r})",
        f"open({str(tmp_path / 'new')!r}, 'w').write('BREACH')",
        f"import os; os.chmod({str(victim)!r}, 0)",
        f"import os; os.rename({str(victim)!r}, 'stolen')",
        f"import os; os.utime({str(victim)!r}, (0, 0))",
    ):
        assert ran(box, attempt).exit_code == 1, attempt
    assert victim.read_text() == "whole"
    assert victim.stat().st_mode & 0o777 == 0o666
    assert [p.name for p in tmp_path.iterdir()] == ["victim.txt"]


def test_4_no_socket_reaches_anything(box: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        port = server.getsockname()[1]
        result = ran(box, f"import socket; socket.create_connection(('127.0.0.1', {port}), 2); print('BREACH')")
        assert "BREACH" not in result.stdout
        with pytest.raises(TimeoutError):
            server.accept()


def test_5_no_other_program_is_started(box: Sandbox, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for attempt in (
        f"import subprocess; subprocess.run(['touch', {str(mark)!r}], check=True)",
        f"import os; os.system('touch {mark}'); os.execv('/bin/sh', ['sh', '-c', 'echo BREACH'])",
        "import os; os.posix_spawn('/bin/echo', ['echo', 'BREACH'], {})",
    ):
        assert "BREACH" not in ran(box, attempt).stdout
    assert not mark.exists()


def test_6_the_parent_cannot_be_signalled(box: Sandbox) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for target in (os.getpid(), bystander.pid):
            attempt = f"import os, signal; os.kill({target}, signal.SIGTERM); print('BREACH')"
            assert "BREACH" not in ran(box, attempt).stdout
        result = ran(
            box, "import os, signal\nfor p in (os.getppid(), -1):\n    os.kill(p, signal.SIGKILL)\nprint('BREACH')"
        )
        assert "BREACH" not in result.stdout
        time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_7_other_processes_cannot_be_looked_at(box: Sandbox) -> None:
    source = (
        "import os\n"
        f"for path in ('/proc/1/environ', '/proc/{os.getpid()}/environ', '/proc/{os.getpid()}/mem'):\n"
        "    try:\n        print('BREACH', open(path, 'rb').read(64))\n    except OSError:\n        pass\n"
    )
    assert "BREACH" not in ran(box, source).stdout


def test_8_memory_is_bounded(box: Sandbox) -> None:
    result = ran(box, "x = bytearray(3 * 2**30); print('BREACH')", memory_bytes=256 * 2**20)
    assert (result.ended_by, result.exit_code, "BREACH" in result.stdout) == ("memory", None, False)


def test_9_time_is_bounded_spinning_or_sleeping(box: Sandbox) -> None:
    for source in ("while True: pass", "import time; time.sleep(60)"):
        result = ran(box, source, seconds=0.5)
        assert result.ended_by == "time"
        assert result.seconds < 5


def test_10_disk_is_bounded_in_one_file_or_many(box: Sandbox) -> None:
    one = ran(box, "f = open('big', 'wb')\nfor _ in range(1024): f.write(bytes(2**20))\nprint('BREACH')", seconds=20)
    assert "BREACH" not in one.stdout
    source = (
        "import time\nfor i in range(1024):\n    open(f'f{i}', 'wb').write(bytes(2**20))\n    time.sleep(0.005)\n"
        "print('BREACH')"
    )
    many = ran(box, source, seconds=20)
    assert "BREACH" not in many.stdout
    assert many.ended_by == "files"


def test_10_disk_and_memory_cannot_be_filled_beside_its_own_folder(box: Sandbox) -> None:
    folders = ("/", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/usr", "/etc", "/run")
    source = (
        f"import os\nfor folder in ({folders!r} + (os.path.dirname(os.getcwd()),)):\n"
        "    try:\n        open(os.path.join(folder, 'x'), 'wb').write(bytes(2**20))\n        print('BREACH', folder)\n"
        "    except OSError:\n        pass\n"
        "open(os.devnull, 'w').write('x')\nprint(len(os.urandom(8)), len(open('/dev/urandom', 'rb').read(4)))"
    )
    result = ran(box, source)
    assert result.stdout == "8 4\n", result.stderr


def test_11_processes_do_not_multiply(box: Sandbox) -> None:
    result = ran(box, "import os\nfor _ in range(300): os.fork()\nprint('BREACH')")
    assert "BREACH" not in result.stdout
    assert result.exit_code == 1


def test_12_output_is_bounded(box: Sandbox) -> None:
    result = ran(box, "while True: print('x' * 10_000)", output_bytes=50_000, seconds=10)
    assert result.ended_by == "output"
    assert len(result.stdout) <= 50_000


def test_13_nothing_is_left_running(box: Sandbox, tmp_path: Path) -> None:
    before = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    source = (
        "import os, threading, time\ntry:\n    os.fork() or time.sleep(60)\nexcept OSError:\n    pass\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()"
    )
    assert ran(box, source, seconds=1.0).ended_by == "time"
    after = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert after.count("_confine.py") <= before.count("_confine.py")


def test_more_than_the_thirteen_escapes_are_closed(box: Sandbox) -> None:
    for attempt in (
        "import ctypes; assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0",
        "import os; os.memfd_create('x')",
        "import os; os.setuid(0) if os.getuid() else os.setuid(1)",
        "import os; os.unshare(os.CLONE_NEWUSER)" if hasattr(os, "unshare") else "raise OSError",
        f"import resource; resource.prlimit({os.getpid()}, resource.RLIMIT_NOFILE, (3, 3))",
        "import os; os.symlink('/etc/passwd', 'link'); open('link').read()",
        "import os; os.link('/etc/hostname', 'linked'); open('linked').read()",
    ):
        assert ran(box, attempt).exit_code == 1, attempt


def test_a_box_that_does_not_hold_is_refused_before_anything_runs() -> None:
    bare = Box(lambda scratch: (), landlock=False, packages=False, workers=1)
    assert "it can open /etc/passwd" in probe(bare), "seccomp alone leaves the files open, and the probe must see it"


def test_packages_are_there_only_where_the_recipe_says_so() -> None:
    plain = AutoSandbox().open()
    assert ran(plain, "import numpy").exit_code == 1
    with_packages = AutoSandbox(packages=True).open()
    result = ran(with_packages, "import numpy; print(numpy.arange(3).sum())", seconds=30, memory_bytes=2 * 2**30)
    assert result.stdout == "3\n", result.stderr[-300:]
    assert AutoSandbox().identity() != AutoSandbox(packages=True).identity()
    assert AutoSandbox(workers=1).identity() == LandlockSandbox(workers=2).identity()
