"""A store on S3: eight writers at once, commits and reads beside a folder on this machine, requests that each takes.

    python -m benchmarks.s3 [--commits 1000] [--server own|distant|moto] [--store s3://bucket/prefix]

`own` is the test server of this repository (checks signatures and If-None-Match), `distant` the same with 20 ms before
every answer, as a bucket in the same region may take, `moto` a widely used server in a throw-away environment; `--store`
takes the storage that the AWS_* variables name instead, with an empty prefix. Without such a delay a request costs a
fraction of a millisecond here, so the requests of a commit are counted, too.

Prints one JSON object a server; exits 1 if anything was lost, doubled or torn.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import polars as pl

from benchmarks._throwaway import environment
from schemas.lineage import Manifest
from storage.store import Store
from tests.storage.making import examples, ingest_step
from tests.storage.s3_server import BUCKET, KEY_ID, SECRET

WRITERS = 8
ROWS = 200_000
DELAY = 0.02


def main() -> int:
    """Every server asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--commits", type=int, default=1000, help="of eight writers together, and as many contested ones"
    )
    parser.add_argument("--server", choices=("own", "distant", "moto", "all"), default="all")
    parser.add_argument("--store", help="an address to use instead, with the AWS_* variables of the environment")
    parser.add_argument("--only", choices=("storm", "one"), help="the eight writers, or one writer and reader")
    asked = parser.parse_args()
    bad = 0
    names = ("given",) if asked.store else ("own", "distant", "moto") if asked.server == "all" else (asked.server,)
    for name in names:
        with tempfile.TemporaryDirectory(prefix="s3-bench-") as folder:
            os.environ["PROVENDER_HOME"] = str(Path(folder) / "home")
            with serving(name, Path(folder)) as address:
                where = asked.store or f"s3://{BUCKET}/bench"
                figures, wrong = measure(where, Path(folder), asked.commits, address, asked.only)
                print(json.dumps({"server": name, **figures}), flush=True)
                bad += len(wrong)
                for line in wrong[:10]:
                    print(f"WRONG: {line}", file=sys.stderr)
    return 1 if bad else 0


@contextmanager
def serving(name: str, folder: Path) -> Generator[str, None, None]:
    """A server in a process of its own, the environment set for its clients; its address, empty if it cannot count."""
    if name == "given":
        yield ""
        return
    if name != "moto":
        command = [sys.executable, "-m", "tests.storage.s3_server", "--delay", str(DELAY if name == "distant" else 0)]
    else:
        python = environment(Path(tempfile.gettempdir()) / "provender-moto", ["moto[server]==5.2.5"])
        command = [str(python), "-m", "moto.server", "-p", "0"]
    with (folder / "server.log").open("w+") as log:
        server = subprocess.Popen(command, stdout=log if name == "moto" else subprocess.PIPE, stderr=log, text=True)
        try:
            address = server.stdout.readline().strip() if server.stdout else _moto_address(folder / "server.log")
            os.environ.update(
                AWS_ENDPOINT_URL=address,
                AWS_ALLOW_HTTP="true",
                AWS_ACCESS_KEY_ID=KEY_ID,
                AWS_SECRET_ACCESS_KEY=SECRET,
                AWS_REGION="us-east-1",
            )
            if name == "moto":
                urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT")).close()
            yield "" if name == "moto" else address
        finally:
            server.terminate()
            server.wait()


def _moto_address(log: Path) -> str:
    """What the server says it listens on."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [word for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        if found:
            return found[0]
        time.sleep(0.1)
    raise SystemExit(f"moto did not start: {log.read_text()[-500:]}")


def measure(where: str, folder: Path, commits: int, address: str, only: str | None) -> tuple[dict[str, Any], list[str]]:
    """The figures of one server, and everything that was wrong."""
    figures: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    wrong: list[str] = []
    if only != "one":
        figures |= eight(where, folder, commits, wrong)
    if only != "storm":
        figures |= one(where, folder, address)
    return figures, wrong


def eight(where: str, folder: Path, commits: int, wrong: list[str]) -> dict[str, Any]:
    """Eight writers on the storage, then on a folder; the seconds are from the first start to the last end of their work."""
    figures: dict[str, Any] = {}
    for place, label in ((where, "s3"), (str(folder / "local"), "folder")):
        acks = storm(place, folder / f"acks-{label}", commits)
        wrong += checked(place, acks, commits)
        spans = [ack["span"] for ack in acks if "span" in ack]
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        done = sum("span" not in ack for ack in acks)
        figures[f"storm_{label}"] = {
            "acknowledged": done,
            "versions": len({ack["ref"] for ack in acks if "ref" in ack}),
            "seconds": round(seconds, 1),
            "a_second": round(done / seconds, 1),
        }
    figures["storm_ratio"] = _ratio(figures["storm_s3"]["seconds"], figures["storm_folder"]["seconds"])
    return figures | {"wrong": len(wrong)}


def one(where: str, folder: Path, address: str) -> dict[str, Any]:
    """One writer and reader, on the storage and on a folder in turn."""
    stores = {"s3": Store.open(f"{where}-one"), "folder": Store.open(folder / "one")}
    small, large = examples(["a", "bbb"]), examples(_texts(ROWS))
    figures: dict[str, Any] = {
        "commit": beside(stores, lambda store, turn: put(store, small, f"n{turn}"), 60),
        "commit_large": beside(stores, lambda store, turn: put(store, large, f"m{turn}"), 5),
    }
    if address:
        before = _requests(address)
        put(stores["s3"], small, "counted")
        figures["requests_a_commit"] = _requests(address) - before
    return figures | {"read": reading(stores, large)}


def storm(place: str, acks: Path, commits: int) -> list[dict[str, Any]]:
    """Eight writers: commits of their own, the same steps as the others, and one tag that all of them move."""
    Store.open(place)
    acks.touch()
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(WRITERS)
    running = [
        context.Process(target=_writer, args=(place, number, commits // WRITERS, acks, gate))
        for number in range(WRITERS)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    failed = [process.exitcode for process in running if process.exitcode]
    if failed:
        raise SystemExit(f"writers ended with {failed}")
    return [json.loads(line) for line in acks.read_text().splitlines()]


def _writer(place: str, number: int, count: int, acks: Path, gate: Any) -> None:
    store = Store.open(place)
    log = os.open(acks, os.O_WRONLY | os.O_APPEND)
    gate.wait()
    started = time.time()
    for turn in range(count):
        for name, texts in ((f"own {number} {turn}", ["a", "bbb"]), (f"shared {turn}", [f"writer {number}"])):
            draft = store.draft(ingest_step(name))
            draft.homes = [draft.step.output]
            draft.put("examples", examples(texts, name))
            made = store.commit(draft)
            os.write(log, (json.dumps({"ref": str(made.ref), "commit": made.commit_id}) + "\n").encode())
            if name.startswith("own"):
                tag = store.tag("race", made.ref)
                os.write(log, (json.dumps({"tag": tag.number, "of": str(made.ref)}) + "\n").encode())
    os.write(log, (json.dumps({"span": [started, time.time()]}) + "\n").encode())
    os.close(log)


def checked(place: str, acks: list[dict[str, Any]], commits: int) -> list[str]:
    """What was acknowledged and is not so: lost, doubled, a gap in the tag's log, or unsound by ``verify``."""
    store = Store.open(place)
    there = {str(manifest.ref): manifest for manifest in store.versions()}
    wrong = [f"{ack['ref']} is lost or another's" for ack in acks if "ref" in ack and not _same(there, ack)]
    each = commits // WRITERS
    if len(there) != each * WRITERS + each:
        wrong.append(f"{len(there)} versions, not {each * WRITERS + each}")
    log = store.tag_history("race")
    if [version.number for version in log] != list(range(1, each * WRITERS + 1)):
        wrong.append(f"the tag's log holds {len(log)} entries, not {each * WRITERS} without a gap")
    said = {ack["tag"]: ack["of"] for ack in acks if "tag" in ack}
    wrong += [f"race@v{v.number} is {v.ref}" for v in log if said.get(v.number) != str(v.ref)]
    return wrong + [f"{finding.place}: {finding.problem}" for finding in store.verify()]


def _same(there: dict[str, Any], ack: dict[str, Any]) -> bool:
    return ack["ref"] in there and there[ack["ref"]].commit_id == ack["commit"]


def beside(stores: dict[str, Store], job: Callable[[Store, int], object], turns: int) -> dict[str, Any]:
    """Milliseconds of a job on each store, in turn, and the ratio of the medians."""
    taken: dict[str, list[float]] = {label: [] for label in stores}
    for turn in range(turns + 2):
        for label, store in stores.items():
            started = time.perf_counter()
            job(store, turn)
            taken[label].append(1000 * (time.perf_counter() - started))
    found: dict[str, Any] = {label: _spread(times[2:]) for label, times in taken.items()}
    return {**found, "ratio": _ratio(found["s3"]["p50_ms"], found["folder"]["p50_ms"])}


def put(store: Store, rows: pl.DataFrame, name: str) -> Manifest:
    """A version of one part with these rows."""
    draft = store.draft(ingest_step(name))
    draft.homes = [draft.step.output]
    draft.put("examples", rows)
    return store.commit(draft)


def reading(stores: dict[str, Store], rows: pl.DataFrame) -> dict[str, Any]:
    """A version of many examples, whole: the first time on a machine (fetched and verified), and from its cache."""
    version = {label: put(store, rows, "read") for label, store in stores.items()}
    size = sum(part.size_bytes for part in version["s3"].parts["examples"])
    taken: dict[str, list[float]] = {"folder": [], "first": [], "again": []}
    for turn in range(9):
        for label, times in taken.items():
            store = stores["folder" if label == "folder" else "s3"]
            if label == "first":
                for path in (store.root / "objects").glob("??/*"):
                    path.unlink()
            started = time.perf_counter()
            if store.pool(version["s3"].ref).height != rows.height:
                raise SystemExit("rows are missing")
            if turn:
                times.append(1000 * (time.perf_counter() - started))
    found = {label: _spread(times) for label, times in taken.items()}
    ratios = {
        f"{label}_ratio": _ratio(found[label]["p50_ms"], found["folder"]["p50_ms"]) for label in ("first", "again")
    }
    return {"examples": rows.height, "mib": round(size / 2**20, 1), **found, **ratios}


def _texts(count: int) -> list[str]:
    return [f"answer {number * 2654435761 % 2**32:x} of row {number}, {number**3:x}" for number in range(count)]


def _spread(times: list[float]) -> dict[str, float]:
    cuts = quantiles(times, n=20, method="inclusive")
    return {"p50_ms": round(cuts[9], 1), "p95_ms": round(cuts[18], 1)}


def _ratio(one: float, other: float) -> float:
    return round(one / other, 2)


def _requests(address: str) -> int:
    with urllib.request.urlopen(address) as answer:
        return sum(json.load(answer).values())


if __name__ == "__main__":
    sys.exit(main())
