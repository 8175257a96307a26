"""Does a measured mixture beat uniform and proportional? Real rows, the embedded model as proxy, several methods, intervals.

Seven sources of short real rows (with ``--data FOLDER`` or PROVENDER_DATA; the four shipped files without), four of which
the trained model is to do well on; 64 mixtures measured by fine-tuning the embedded model; each method's mixture and
both baselines then trained with fresh seeds. Every run is kept in the store, so the study goes on where it was:

    python -m benchmarks.mixture_study --data FOLDER --minutes 5      # again and again until it says that it is done
"""

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks._mixture_data import write
from methods.mix import AnyMix
from schemas.errors import Stopped
from schemas.lineage import DatasetRef
from schemas.recipe import BackendChoices
from schemas.sources import SourceSpec
from storage.calls.stopping import STOP_FILE
from tasks.adhoc import adhoc_bench
from tasks.bench import Bench, open_store
from tasks.events import Event, listening
from tasks.gather import gather
from tasks.ingest import ingest
from tasks.mix import mix_sources

#: One design: all methods of the first kind share the 64 pilots, all methods share the baselines' runs.
COMMON: dict[str, Any] = {
    "proxy_examples": 96,
    "proxy_epochs": 2.0,
    "eval_examples": 24,
    "total_examples": 1500,
    "check_seeds": 12,
}
METHODS: dict[str, dict[str, Any]] = {
    "log-linear, kl .01": {"method": "log-linear", "kl": 0.01},
    "log-linear": {"method": "log-linear"},
    "regmix, trees": {"method": "regmix", "bootstraps": 5},
    "quadratic": {"method": "quadratic", "proxies": 64},
    "regmix, linear": {"method": "regmix", "regression": "linear"},
    "log-linear, kl .1": {"method": "log-linear", "kl": 0.1},
    "skill-it": {"method": "skill-it", "eta": 2.0},
    "doremi": {"method": "doremi"},
    "odm": {"method": "odm", "batch_examples": 4},
    "data-mixing-laws": {"method": "data-mixing-laws"},
    "autoscale": {"method": "autoscale"},
    "aioli": {"method": "aioli"},
}
TUNER = {"backend": "torch", "model": "sprout", "learning_rate": 1e-3, "max_tokens": 128, "threads": 1}


def main() -> None:
    args = _arguments()
    data = args.data or (Path(os.environ["PROVENDER_DATA"]) if os.environ.get("PROVENDER_DATA") else None)
    if data is None:
        print("no --data: the four files that ship; the study of the documentation needs the shared data folder")
    work = args.work or Path(tempfile.gettempdir()) / f"provender-mixture-study-{'data' if data else 'shipped'}"
    sources, groups = write(work / "rows", data, COMMON["eval_examples"])
    tuner = BackendChoices.model_validate({"tune": TUNER})
    bench = adhoc_bench(work / "store", tuner, rng_seed=0)
    (work / "store" / STOP_FILE).unlink(missing_ok=True)
    pool = gather({n: _taken(n, work / "rows" / f"{n}.jsonl", bench) for n in sources}, bench)
    target = gather({f"for-{n}": _taken(f"for-{n}", work / "rows" / f"target-{n}.jsonl", bench) for n in groups}, bench)
    clock = threading.Timer(60 * args.minutes, (work / "store" / STOP_FILE).touch)
    clock.daemon = True
    clock.start()
    try:
        with listening(Said()):
            for name in args.methods or METHODS:
                show(name, study(name, pool, target, bench), bench)
        print("done")
    except Stopped as stopped:
        print(f"{stopped}\nrun the same command again to go on")
    finally:
        clock.cancel()
        (work / "store" / STOP_FILE).unlink(missing_ok=True)


def study(name: str, pool: DatasetRef, target: DatasetRef, bench: Bench) -> DatasetRef:
    """The mixture of one method over the pool, aimed at the target."""
    method: Any = TypeAdapter(AnyMix).validate_python({**COMMON, **METHODS[name]})
    return mix_sources(pool, method, bench, target)


def show(name: str, ref: DatasetRef, bench: Bench) -> None:
    """What came out, in lines that can stand in a table."""
    manifest = open_store(bench).describe(ref)
    notes: Any = manifest.summary["notes"]
    print(f"\n{name}: {ref}")
    for source, share in sorted(notes["asked"].items(), key=lambda item: -item[1]):
        low, high = notes.get("intervals", {}).get(source, (None, None))
        bounds = "" if low is None else f"  ({low:.3f} to {high:.3f})"
        print(f"  {source:16} {share:6.3f}{bounds}  each example {notes['repetition'][source]:.2f} times")
    if "law" in notes:
        print(f"  law: {json.dumps(notes['law'])}")
        print(f"  predicted: {json.dumps(notes['predicted'])}; best pilot {notes['best_run']['loss']:.4f}")
    print(f"  {notes['says']}", flush=True)


def _taken(name: str, path: Path, bench: Bench) -> DatasetRef:
    fields = {"prompt": "prompt", "completion": "completion"}
    return ingest(name, SourceSpec(path=str(path), shape="prompt-completion", fields=fields), bench)


class Said:
    """One line per ten proxy runs."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Print what is worth a line."""
        if event.kind == "progress" and event.stage == "mix" and event.done % 10 == 0:
            spent = time.perf_counter() - self.start
            print(f"  {spent:6.0f} s  {event.done}/{event.total} {event.note}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the shared data folder; default: PROVENDER_DATA")
    parser.add_argument("--work", type=Path, help="where rows and store lie; default: the system's temporary folder")
    parser.add_argument("--minutes", type=float, default=5.0, help="stop cleanly after so long; run again to go on")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), help="only these")
    return parser.parse_args()


if __name__ == "__main__":
    main()
