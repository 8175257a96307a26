"""How fast is the lineage browser over a large store? Every page over HTTP, `trace` in a fresh process, memory, a big graph.

    python -m benchmarks.browse                     # 1,000,000 examples through twelve kinds of steps, two versions
    python -m benchmarks.browse --rows 10000000     # some minutes to build, about 4 GB of disk
    python -m benchmarks.browse --only search --store /somewhere

Each page is asked of a server that has just been started, before anything else: once of the first server that ever looks
at the store (*ever*: no answers of versions are kept yet), once of a later one (*first*); then, in one server that has
stood for some seconds, for things it was not asked before (*new*: another word, another row) and for the same ones again
(*again*). Two times count: to the first answer, which is the page or the notice that it is being made (*answer*), and to
the page itself (*page*). CPU is that of the server since it listens. The machine's page cache is warm, except for `trace,
files out of memory`. The last lines say how long a server takes to listen, and name every page over the aim.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._browse_pages import ROOT, Serving, Visit, a_dropped_id, pages, texts_of
from benchmarks._browse_store import build, graph_store, some_ids
from storage.store import Store

#: What a page may take on a store of a million examples, in milliseconds.
AIM = 300


def measure_pages(
    folder: Path,
    asked: Mapping[str, Sequence[str]],
    home: Path,
    say: Callable[[str], None],
    wait_seconds: float = 0.0,
    ever: bool = True,
) -> dict[str, Any]:
    """Visits per page: first ones to fresh servers, so long after they stand; then new and repeated ones to one server.

    ``home`` is an empty folder: answers of versions are kept there, for each first server ever in a folder of its own.
    """
    found: dict[str, dict[str, list[Visit]]] = {
        name: {"ever": [], "first": [], "new": [], "again": []} for name in asked
    }
    starts: dict[str, list[float]] = {"ever": [], "first": []}
    with Serving(folder, home / "kept") as server:
        server.settle()
    for name, addresses in asked.items():
        for kind in ("ever", "first") if ever else ("first",):
            own = home / ("kept" if kind == "first" else f"ever-{len(starts['ever'])}")
            with Serving(folder, own) as server:
                starts[kind].append(server.start_ms)
                time.sleep(wait_seconds)
                found[name][kind].append(server.visit(addresses[0]))
            if kind == "ever":
                shutil.rmtree(own, ignore_errors=True)
        pages_ms = ", ".join(f"{kind} {found[name][kind][0].whole:.0f} ms" for kind in starts if found[name][kind])
        say(f"{name:<40} first visit: {pages_ms}")
    with Serving(folder, home / "kept") as server:
        server.settle()
        for name, addresses in asked.items():
            found[name]["new"] += [server.visit(address) for address in addresses]
            found[name]["again"] += [
                server.visit(address) for _ in range(max(1, 6 // len(addresses))) for address in addresses
            ]
        peak = server.peak_mib()
    kept = sum(path.stat().st_size for path in (home / "kept").rglob("*") if path.is_file())
    return {
        "pages": {
            name: {kind: _told(visits) for kind, visits in kinds.items() if visits} for name, kinds in found.items()
        },
        "peak_mib": peak,
        "start_ms": {kind: told(times) for kind, times in starts.items() if times},
        "kept_mib": kept / 2**20,
    }


def _told(visits: Sequence[Visit]) -> dict[str, dict[str, float]]:
    return {name: told([getattr(visit, name) for visit in visits]) for name in Visit._fields}


def told(times: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and worst."""
    ordered = sorted(times)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))],
        "worst": ordered[-1],
    }


def measure_trace(folder: Path, tag: str, times: int) -> dict[str, dict[str, float]]:
    """``provender trace`` as a person starts it, imports included, in milliseconds."""
    store = Store.open(folder, create=False)
    kept = list(some_ids(store, store.resolve(tag), "index", times, 11))
    gone = [a_dropped_id(store, tag, i) for i in range(times)]
    objects = [path for path in (folder / "objects").rglob("*") if path.is_file()]

    def fresh(example: str | Sequence[str], cold: bool) -> float:
        if cold:
            forget(objects)
        code = "import sys; from cli.main import main; sys.argv[0] = 'provender'; main()"
        asked = [example] if isinstance(example, str) else example
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, "trace", *asked, "--store", str(folder), "--json"],
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        return 1000 * (time.perf_counter() - began)

    fresh(kept[0], False)
    return {
        "trace, kept": told([fresh(i, False) for i in kept]),
        "trace, dropped": told([fresh(i, False) for i in gone]),
        "trace, dropped, 12 digits": told([fresh(i[:12], False) for i in gone]),
        "trace, files out of memory": told([fresh(i, True) for i in gone]),
        "trace --text, everything looked through": told(
            [fresh(["--text", text], False) for text in texts_of(store, store.resolve(tag), kept[:4])]
        ),
    }


def forget(files: Sequence[Path]) -> None:
    """Lets the system drop what it holds of these files in memory; what was read is clean, so it does."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def measure_graph(folder: Path, versions: int, home: Path) -> dict[str, Any]:
    """A store of so many versions: its graph, its lists, and one version of it."""
    tag = graph_store(folder, versions)
    addresses = {
        "graph": [f"/graph/{tag}"],
        "a version": [f"/d/{tag}"],
        "all versions": ["/versions"],
        "datasets": ["/"],
    }
    return measure_pages(folder, addresses, home, lambda _line: None)


def main() -> None:
    """Build what is missing, measure, print; the exit code says whether a page was over the aim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=12, help="different rows of a page that shows one row")
    parser.add_argument("--only", nargs="*", help="pages whose name holds one of these; also: trace, graph2000")
    parser.add_argument("--store", type=Path, help="keep the store here, and use it if it is there")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds a fresh server stands before its first visit")
    parser.add_argument("--quick", action="store_true", help="leave out the first server that ever looks at the store")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    say = (lambda _line: None) if asked.json else (lambda line: print(line, flush=True))
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.store or Path(temporary) / "store"
        began = time.perf_counter()
        if not folder.exists():
            build(folder, asked.rows)
        found: dict[str, Any] = {
            "rows": asked.rows,
            "build_seconds": time.perf_counter() - began,
            "load": os.getloadavg()[0],
        }
        store = Store.open(folder, create=False)
        tag, other = (f"bench@v{tag.number}" for tag in reversed(store.tag_history("bench")))
        chosen = pages(store, tag, other, asked.times)
        if asked.only is not None:
            chosen = {name: urls for name, urls in chosen.items() if any(one in name for one in asked.only)}
        if chosen:
            found |= measure_pages(folder, chosen, Path(temporary) / "home", say, asked.wait, not asked.quick)
        if asked.only is None or "trace" in asked.only:
            found["trace"] = measure_trace(folder, tag, asked.times)
        if asked.only is None or "graph2000" in asked.only:
            found["graph of 2,000"] = measure_graph(Path(temporary) / "graph", 2000, Path(temporary) / "graph-home")
    if asked.json:
        print(json.dumps(found))
    else:
        show(found)


def show(found: Mapping[str, Any]) -> None:
    """The figures as a table, milliseconds; what answers later than the aim is marked."""
    built, load = found["build_seconds"], os.getloadavg()[0]
    print(
        f"\n{found['rows']:,} examples, built in {built:.0f} s, {os.cpu_count()} cores, load {load:.1f}; milliseconds"
    )
    print(
        " " * 36 + "  ever: answer, page   first visit: answer, page, CPU     new: page p50, p95, CPU   again: p50, p95"
    )
    late: list[str] = []
    for title, part in (("", found), ("2,000 versions: ", found.get("graph of 2,000", {}))):
        for name, kinds in part.get("pages", {}).items():
            one, new, again = kinds["first"], kinds["new"], kinds["again"]
            ever = kinds.get("ever")
            cells = [ever["first"]["p50"], ever["whole"]["p50"]] if ever else [float("nan")] * 2
            cells += [one["first"]["p50"], one["whole"]["p50"], one["cpu"]["p50"]]
            cells += [new["whole"]["p50"], new["whole"]["p95"], new["cpu"]["p50"]]
            cells += [again["whole"]["p50"], again["whole"]["p95"]]
            over = _over(kinds)
            late += [f"{title}{name}: {told}" for told in over]
            print(f"{title + name:<36} " + "".join(f"{cell:10.0f}" for cell in cells) + (" <-- over" if over else ""))
        if "peak_mib" in part:
            starts = "; ".join(
                f"{kind} p50 {t['p50']:.0f}, worst {t['worst']:.0f} ms" for kind, t in part["start_ms"].items()
            )
            print(
                f"{title}memory of the server at its highest {part['peak_mib']:.0f} MiB, {part['kept_mib']:.0f} MiB kept"
            )
            print(f"{title}from its start until it listens: {starts}")
    for name, times in found.get("trace", {}).items():
        print(
            f"{name:<36} p50 {times['p50']:6.0f}   p95 {times['p95']:6.0f}   worst {times['worst']:6.0f}, imports included"
        )
    print(f"\nover {AIM} ms, worst of each kind: " + ("no page" if not late else ""))
    for line in late:
        print(f"  {line}")


def _over(kinds: Mapping[str, Any]) -> list[str]:
    """What of a page came later than the aim, in words; all kinds of visits, answers and whole pages."""
    parts = {"first": "answer", "whole": "page"}
    return [
        f"{kind}, {said} {visits[part]['worst']:.0f} ms (p50 {visits[part]['p50']:.0f}, p95 {visits[part]['p95']:.0f})"
        for kind, visits in kinds.items()
        for part, said in parts.items()
        if visits[part]["worst"] > AIM
    ]


if __name__ == "__main__":
    main()
