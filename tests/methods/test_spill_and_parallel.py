"""Arrays in memory and in a file hold the same; threads keep the order and do not run ahead."""

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from methods.parallel import cores, in_order
from methods.spill import Columns, Growing, Table, give_back, let_go, taken


@pytest.mark.parametrize("in_memory", [0, 40, 10**6], ids=["file", "file later", "memory"])
def test_what_is_appended_is_there(in_memory: int):
    growing = Growing(np.uint32, in_memory)
    for piece in ([1, 2, 3], [], [4] * 20, [5]):
        growing.append(np.array(piece, dtype=np.uint32))
    assert len(growing) == 24
    assert growing.whole().tolist() == [1, 2, 3, *[4] * 20, 5]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts resident pages as Linux does")
def test_what_was_let_go_takes_no_memory_and_is_read_again():
    growing = Growing(np.uint32, 0)
    growing.append(np.arange(10**7, dtype=np.uint32))
    whole = growing.whole()

    def of_files() -> int:
        """Resident pages of files, in bytes, also where temporary files lie in memory."""
        found = re.findall(r"Rss(?:File|Shmem):\s+(\d+)", Path("/proc/self/status").read_text())
        return sum(map(int, found)) << 10

    total = int(whole.sum(dtype=np.uint64))
    before = of_files()
    let_go(whole)
    assert before - of_files() > 30 * 10**6, "of 40 MB"
    assert int(whole.sum(dtype=np.uint64)) == total == 10**7 * (10**7 - 1) // 2
    let_go(np.arange(3))


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="a C library other than glibc keeps its own rules"
)
def test_memory_that_was_freed_below_what_is_in_use_goes_back():
    def own() -> int:
        return int(re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[0]) << 10

    pieces = [np.ones(1 << 13) for _ in range(1200)]  # 64 KiB each, which glibc takes from its heap
    last = pieces[-1]
    del pieces[:-1]
    before = own()
    give_back()
    assert before - own() > 30 << 20, "of 75 MiB below the piece that is still there"
    assert last.sum() == 1 << 13


def test_nothing_appended_is_empty():
    assert Growing(np.uint32, 0).whole().tolist() == []


@pytest.mark.parametrize("in_memory", [0, 10**6], ids=["file", "memory"])
def test_columns_come_back_whole_whatever_the_order_of_the_slices(in_memory: int):
    values = np.random.default_rng(0).integers(0, 2**64, (3, 50), dtype=np.uint64)
    columns = Columns(3, 50, in_memory)
    for start in (30, 0, 10, 40, 20):
        columns.put(start, values[:, start : start + 10])
    assert [columns.column(i).tolist() for i in range(3)] == values.tolist()


def test_columns_of_other_numbers_keep_them():
    for in_memory in (0, 10**6):
        columns = Columns(2, 3, in_memory, np.float32)
        columns.put(1, np.array([[0.5, 0.25], [4, 8]], dtype=np.float32))
        columns.put(0, np.array([[1.5], [2]], dtype=np.float32))
        assert [columns.column(i).tolist() for i in range(2)] == [[1.5, 0.5, 0.25], [2.0, 4.0, 8.0]]
        assert columns.column(0).dtype == np.float32


@pytest.mark.parametrize("in_memory", [0, 10**6], ids=["file", "memory"])
def test_rows_of_a_table_lie_where_they_were_put_in_whatever_order(in_memory: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("methods.spill.IN_MEMORY", in_memory)
    monkeypatch.setattr("methods.spill._TAKEN", 4)
    draw = np.random.default_rng(2)
    values = draw.random((60, 5)).astype(np.float32)
    places = draw.permutation(60)
    table = Table(60, 5)
    for part in (slice(0, 1), slice(1, 1), slice(1, 30), slice(30, 60)):
        table.put(places[part], values[part])
    whole = table.whole()
    assert np.array_equal(whole[places], values)
    assert isinstance(whole, np.memmap) == (in_memory == 0)
    some = draw.permutation(60)[:17]
    assert np.array_equal(taken(whole, some), whole[some])
    assert taken(whole, some[:0]).shape == Table(0, 5).whole().shape == (0, 5)


FULL = """
import resource, signal
import numpy as np
from methods import spill
from schemas.errors import StoreUnwritable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
rows = np.ones((9000, 4), dtype=np.float32)
def grown():
    growing = spill.Growing(np.float32, 0)
    for row in rows:
        growing.append(row)
    growing.whole()
for way in (grown, lambda: spill.Table(9000, 4, 0), lambda: spill.Columns(4, 9000, 0)):
    try:
        way()
    except StoreUnwritable as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of a file as POSIX does")
def test_a_disk_that_is_full_is_told_with_the_way_out(tmp_path: Path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, env=environment, check=False)
    said = done.stdout.splitlines()
    assert len(said) == 3, done.stderr
    assert all(f"beside memory in {tmp_path}: File too large; set TMPDIR to a larger disk" in line for line in said)
    assert done.stderr == ""


def test_results_come_in_order_and_few_items_wait():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            taken.append(i)
            yield i

    results = in_order(lambda i: i * i, items(), threads=2)
    assert next(results) == 0
    assert len(taken) <= 5
    assert list(results) == [i * i for i in range(1, 50)]


def test_work_is_done_on_other_threads_and_an_error_comes_through():
    names = set(in_order(lambda _: threading.current_thread().name, range(4), threads=3))
    assert all(name.startswith("method") for name in names)

    def fails(i: int) -> int:
        raise ZeroDivisionError(i)

    with pytest.raises(ZeroDivisionError):
        list(in_order(fails, range(4), threads=2))
    assert list(in_order(str, range(3), threads=1)) == ["0", "1", "2"]
    assert cores() >= 1
