"""The pages that the browser's benchmark opens, and `provender serve` as a process with its memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import httpx
import numpy as np
import polars as pl
import psutil

from backends.engines import free_port
from benchmarks._browse_store import some_ids
from schemas.lineage import DatasetRef, Manifest
from storage.layout import REJECT
from storage.store import Store

ROOT = Path(__file__).resolve().parents[1]


#: Pasted texts that are nowhere in the store.
NOWHERE = (
    "Ask the lighthouse keeper whether yesterday's herring were counted before or after the tide had turned.",
    "zanzibarquux wobbled over forty violet gramophones while nobody at all was listening to the frost",
)


class Visit(NamedTuple):
    """Milliseconds: to the first answer (the page, or the notice that it is being made), to the page, of CPU."""

    first: float
    whole: float
    cpu: float


class Serving:
    """``provender serve`` over a store, in a process of its own; ``home`` is where it keeps answers of versions."""

    def __init__(self, store: Path, home: Path) -> None:
        self.port = free_port()
        self.start_ms = 0.0
        self._began = time.perf_counter()
        code = "import sys; from cli.main import main; sys.argv[0] = 'provender'; main()"
        asked = ["serve", "--store", str(store), "--port", str(self.port)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *asked],
            cwd=ROOT,
            env=os.environ | {"PROVENDER_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=120)

    def __enter__(self) -> "Serving":
        for _ in range(12_000):
            try:
                self.client.get("/static/icon.svg").raise_for_status()
                self.start_ms = 1000 * (time.perf_counter() - self._began)
                return self
            except httpx.TransportError:
                time.sleep(0.01)
        raise RuntimeError("the browser did not start")

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait()

    def visit(self, address: str) -> Visit:
        """One navigation, as a browser makes it: a page that is being made is asked for again until it is there."""
        before, began = self._cpu(), time.perf_counter()
        answer = self.client.get(address, headers={"accept": "text/html"}, follow_redirects=True)
        first = time.perf_counter() - began
        while answer.status_code == 202:
            answer = self.client.get(address, headers={"accept": "text/html"})
        if answer.status_code != 200:
            raise RuntimeError(f"{address}: {answer.status_code} {answer.text[:300]}")
        return Visit(1000 * first, 1000 * (time.perf_counter() - began), 1000 * (self._cpu() - before))

    def settle(self, most_seconds: float = 120.0) -> None:
        """Waits until the server has read what it reads ahead: until it has done nothing for half a second."""
        ends = time.monotonic() + most_seconds
        before = -1.0
        while self._cpu() != before and time.monotonic() < ends:
            before = self._cpu()
            time.sleep(0.7)

    def _cpu(self) -> float:
        used = psutil.Process(self._process.pid).cpu_times()
        return used.user + used.system

    def peak_mib(self) -> float:
        """The most memory the process has had resident."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("this system does not tell the peak of a process")


def pages(store: Store, tag: str, other: str, times: int) -> Mapping[str, list[str]]:
    """Addresses by page; where a page can be asked many things, ``times`` different ones, the first asked first."""
    ref = store.resolve(tag)
    steps = {step_name(m): m for m in store.upstream(ref)}
    kept = list(some_ids(store, ref, "index", times, 1))
    web = list(some_ids(store, steps["ingest web"].ref, "examples", 4 * times, 2))
    alive = set(
        pl.scan_parquet(store.paths(ref, "index"))
        .filter(pl.col("id").is_in([bytes.fromhex(i) for i in web]))
        .select("id")
        .collect()["id"]
    )
    gone = [i for i in web if bytes.fromhex(i) not in alive][:times]
    written = list(some_ids(store, steps["generate self-instruct"].ref, "examples", times, 3))
    edited = list(some_ids(store, steps["filter tidy"].ref, "examples", times, 4))
    clear = steps["filter clear"]
    within = f"in={quote(tag)}"
    words = (
        "photosynthesis",
        "Fibonacci",
        "recursive function",
        "equator",
        "interest rate",
        "haiku",
        "prime numbers",
        "triangle",
        "python",
        "democracy",
        "metaphor",
        "algorithm",
    )
    other_words = ("光合作用", "умножить", "محرك", "संख्याओं", "翻译", "город")
    spread = np.linspace(0.3, 0.9, times).round(4).tolist()
    many = lambda form, values: [form.format(quote(str(v))) for v in values]  # noqa: E731
    ask = {
        "rows by source": "source, count(*) as examples from examples group by source order by examples desc",
        "longest answers": "id, length(last_turn) as n, left(last_turn, 80) as begins from examples order by n desc limit 20",
        "ilike": "id, first_turn, last_turn from examples where last_turn ilike '%as an ai%' limit 50",
        "first rows": "* from examples limit 20",
        "one id": f"* from examples where id = '{kept[0]}'",
        "reasons": "rule, count(*) from verdicts group by rule",
    }
    sql = {f"sql: {name}": [f"select {text}"] for name, text in ask.items()}
    return {
        "datasets": ["/"],
        "all versions": ["/versions"],
        "a version": [f"/d/{tag}"],
        "a step's version": [f"/d/{clear.ref}", f"/d/{steps['gather'].ref}", f"/d/{steps['rank ifd'].ref}"],
        "graph": [f"/graph/{tag}"],
        "card": [f"/card/{tag}"],
        "report, a file": [f"/report/{tag}"],
        "rows": many(f"/rows/{tag}?start={{}}", [0, 25, 1000, 100_000, 12_345]),
        "rows of a source": many(f"/rows/{tag}?source={{}}", ["web", "forum", "code", "written"]),
        "rows by a score": many(f"/rows/{tag}?order={{}}", ["-clear", "language", "-ifd", "ifd.loss"]),
        "rows, scores in a range": many(f"/rows/{tag}?min.clear={{}}", spread[:6]),
        "dropped on the way": [
            f"/rows/{tag}?fate=dropped&order=margin",
            f"/rows/{tag}?fate=dropped&rule=near-copy&order=margin",
            f"/rows/{tag}?fate=dropped",
        ],
        "dropped by a step": [
            f"/rows/{clear.ref}?fate=reject&order=margin&{within}",
            f"/rows/{steps['dedup minhash'].ref}?fate=reject&order=margin&{within}",
        ],
        "search": many(f"/rows/{tag}?text={{}}", words),
        "search, one hit": many(f"/rows/{tag}?text={{}}", [f"(web-{i * 1013})" for i in range(1, 6)]),
        "search, no hit": many(f"/rows/{tag}?text={{}}", ["zanzibarquux", "qqqqq wwwww"]),
        "search, other scripts": many(f"/rows/{tag}?text={{}}", other_words),
        "search among dropped": many(f"/rows/{tag}?fate=dropped&text={{}}", words[:4]),
        "sql box": [f"/sql/{tag}"],
        **{name: many(f"/sql/{tag}?q={{}}", asked) for name, asked in sql.items()},
        "contamination hits": [f"/hits/{tag}", f"/hits/{tag}?benchmark=mmlu", f"/hits/{tag}?start=20"],
        "what-if": [f"/what-if/{tag}"],
        "what-if, moved": many(f"/what-if/{tag}?t.clear={{}}", spread[:6]),
        "example, kept": [f"/e/{i}?{within}" for i in kept],
        "example, dropped": [f"/e/{i}?{within}" for i in gone],
        "example, written": [f"/e/{i}?{within}" for i in written],
        "example, edited": [f"/e/{i}?{within}" for i in edited],
        "example, 12 digits, no dataset named": [f"/e/{i[:12]}" for i in gone],
        "neighbours": [f"/near/{i}?{within}" for i in kept],
        "a pasted answer": many("/pasted?text={}", texts_of(store, ref, kept)),
        "a pasted answer of a dropped row": many("/pasted?text={}", texts_of(store, steps["ingest web"].ref, gone)),
        "a pasted text nobody wrote": many("/pasted?text={}", NOWHERE),
        "find an id": [f"/find?q={i}" for i in kept[:1]],
        "compare": [f"/compare?a={other}&b={tag}"],
        "compare, nothing chosen": ["/compare"],
        "blast, to pick": ["/blast"],
        "blast of a source": many("/blast?kind=source&name={}", ["code", "web", "forum"]),
        "blast of a licence": many("/blast?kind=license&name={}", ["CC-BY-4.0", "unknown"]),
        "blast of a model": ["/blast?kind=model&name=teacher-8b"],
        "blast of an example": many("/blast?kind=example&name={}", kept[:4]),
        "benchmarks": ["/benchmarks"],
        "mixtures": ["/mixtures"],
        "runs": ["/runs"],
        "a run": ["/runs/20261121-030000-b0b0b0"],
        "cost": ["/cost"],
    }


def texts_of(store: Store, ref: DatasetRef, ids: Sequence[str]) -> list[str]:
    """The answers of these examples, in their order."""
    wanted = [bytes.fromhex(i) for i in ids]
    found: dict[bytes, str] = {}
    for home in store.describe(ref).homes or (ref,):
        rows = pl.scan_parquet(store.paths(home, "examples")).filter(pl.col("id").is_in(wanted))
        found |= {
            row["id"]: row["messages"][-1]["content"] for row in rows.select("id", "messages").collect().to_dicts()
        }
    return [found[i] for i in wanted]


def step_name(manifest: Manifest) -> str:
    """``filter clear``, ``ingest web``: what the benchmark calls its steps."""
    method = manifest.step.method
    return f"{manifest.ref.stage} {method.get('method', method.get('source', ''))}".strip()


def a_dropped_id(store: Store, tag: str, rng_seed: int) -> str:
    """An example that some step rejected, found by position alone."""
    steps = {step_name(m): m for m in store.upstream(store.resolve(tag))}
    clear = steps["filter clear"]
    fates = (
        pl.scan_parquet(store.paths(clear.ref, "verdicts/pool"))
        .with_row_index("at")
        .filter(pl.col("fate") == REJECT)
        .select("at")
        .collect()["at"]
    )
    at = int(fates[int(np.random.default_rng(rng_seed).integers(fates.len()))])
    of = dict(clear.step.inputs)["pool"]
    place = pl.scan_parquet(store.paths(of, "members")).slice(at, 1).collect()
    return store.take(of, place)["id"][0].hex()
