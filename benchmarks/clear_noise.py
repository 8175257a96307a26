"""Does CLEAR find wrong answers, is its confidence calibrated, and does a model trained afterwards gain by it?

1. ``alpaca``: rows that people removed or changed in Alpaca's cleaned edition against rows that they left (needs --data).
2. ``swaps``: a fifth of the targets of real rows are swapped, for any other row's (``--swap any``) or for an answer to a
   similar question (``--swap near``); without ``--swap`` one after the other, over the same rows.
   Area under the precision-recall curve of each signal with bootstrap intervals, against random, length, perplexity and
   the cosine of question and answer; reliability of the confidence.
3. ``training``: proxies tuned on all noisy rows, on halves chosen by each signal or at random, on CLEAR's corrections and
   on the truth; loss on held-out rows, intervals over rows and seeds.

Rows for 2 and 3 are Alpaca's clean ones, which sprout never saw, or the shipped ones, of which it saw most, without --data.
LLM replies and losses are kept in --work, so that a run that was cut short goes on.

    python -m benchmarks.clear_noise --data FOLDER --only alpaca swaps training --out clear_noise.json --svg reliability.svg
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends.embed.sentence_transformers import SentenceTransformers
from backends.embed.static import Static
from backends.llm.transformers import Transformers
from benchmarks._noise_data import SHIPPED, Known, Row, alpaca_clean, alpaca_known, read_rows, swapped
from benchmarks._noise_signals import Engines, flagged, reliability, reliability_svg, signals, table, timed
from benchmarks._noise_training import compare, measure, versions
from methods.stats import bootstrap
from storage.calls.cached_llm import CachedLLM, CallCache

PARTS = ("alpaca", "swaps", "training")
NEAREST = 10  # with --swap near: the answer comes from one of so many rows with the most similar questions
BASELINE = "a random half"


def main() -> None:
    args = _arguments()
    work = args.work or Path(tempfile.mkdtemp(prefix="clear-noise-"))
    work.mkdir(parents=True, exist_ok=True)
    has_labels = args.data is not None and (args.data / "noise" / "alpaca_noise_labels.parquet").is_file()
    llm = CachedLLM(Transformers(model=args.model, threads=args.threads).open(), CallCache(work / "calls.sqlite"))
    engines = Engines(llm, SentenceTransformers().open(), Static().open())
    report: dict[str, Any] = {"model": args.model, "rng_seed": args.rng_seed, "samples": args.samples}
    if "alpaca" in args.only and not has_labels:
        print("alpaca: left out, its labels are not there; name the folder that holds noise/ with --data")
    elif "alpaca" in args.only:
        known = alpaca_known(args.data, args.rows, np.random.default_rng(args.rng_seed))
        report["alpaca"] = measured(known, engines, args)
    clean = alpaca_clean(args.data) if has_labels else read_rows(SHIPPED)
    rng = np.random.default_rng(args.rng_seed)
    order = [clean[int(i)] for i in rng.permutation(len(clean))]
    name = "Alpaca, clean rows" if has_labels else SHIPPED.name

    def planted(swap: str, rows: int, longest: int) -> tuple[Known, list[Row]]:
        truth, near = short(order, longest)[:rows], NEAREST if swap == "near" else rows
        told, dice = f"{name}, {args.noise_fraction:.0%} swapped ({swap})", np.random.default_rng(args.rng_seed)
        return swapped(told, truth, args.noise_fraction, near, engines.minilm, dice), truth

    if "swaps" in args.only:
        for swap in args.swap:
            known, _ = planted(swap, args.rows, 10**9)
            report[f"swaps, {swap}"] = measured(known, engines, args, args.svg if swap == args.swap[0] else None)
    if "training" in args.only:
        held_out = short(order, args.longest)[-args.held_out :]
        noisy = planted(args.swap[0], args.train_rows, args.longest)
        report["training"] = trained(*noisy, held_out, engines, args, work)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")


def measured(known: Known, engines: Engines, args: argparse.Namespace, svg: Path | None = None) -> dict[str, Any]:
    """The signals of one set of rows, printed and as values."""
    print(f"\n{known.name}: asking the model about {len(known.rows)} rows …", flush=True)
    suspicion, seconds = timed(
        lambda: signals(known.rows, engines, samples=args.samples, max_tokens=args.max_tokens, rng_seed=args.rng_seed)
    )
    groups = {"all": np.ones(len(known.rows), dtype=bool)} | {k: v | ~known.bad for k, v in known.kinds.items()}
    tables = {group: table(suspicion, known.bad, mask, args.rng_seed) for group, mask in groups.items()}
    shown = ("CLEAR: O and S", "CLEAR: O, S and L", "S: letter probabilities", "L: token probability gain")
    curves = {signal: reliability(1 - suspicion[signal], ~known.bad) for signal in shown}
    print(f"{known.name}: {len(known.rows)} rows, {int(known.bad.sum())} bad; {seconds:.0f} s")
    for group, values in tables.items():
        print(f"\n  {group}: {values['rows']} rows, {values['bad']} bad ({values['bad'] / values['rows']:.2f})")
        print(f"  {'signal':44} {'AP':>6}  {'95 % interval':16} over random")
        for signal, one in values["signals"].items():
            low, high = one["interval_95"]
            worse, better = one["over_random_95"]
            figures = f"{one['average_precision']:6.3f}  {low:.3f} to {high:.3f}   {worse:+.3f} to {better:+.3f}"
            print(f"  {signal:44} {figures}")
    rules = flagged(known.rows)
    told = {
        name: f"{int(rules[mask].sum())} of {int(mask.sum())}"
        for name, mask in (known.kinds | {"good": ~known.bad}).items()
    }
    print(f"\n  rejected by the filter heuristics: {told}")
    print("\n  reliability: share right by tenths of the confidence (mean confidence: share right)")
    for signal, curve in curves.items():
        bins = "  ".join(f"{one['confidence']:.2f}:{one['right']:.2f}" for one in curve["bins"])
        print(f"  {signal:28} gap {curve['expected_calibration_error']:.3f}  {bins}")
    if svg:
        svg.write_text(reliability_svg(curves, "CLEAR with sprout on swapped answers"), "utf-8")
    return {
        "rows": len(known.rows),
        "tables": tables,
        "heuristics": told,
        "reliability": curves,
        "seconds": round(seconds, 1),
    }


def short(rows: list[Row], longest: int) -> list[Row]:
    """Rows of so many characters at most, in the same order: what a proxy learns from quickly."""
    return [row for row in rows if sum(map(len, row.values())) <= longest]


def trained(
    known: Known, truth: list[Row], held_out: list[Row], engines: Engines, args: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """Held-out loss of proxies trained on each version of the rows, printed and as values."""
    made, audit = versions(known, truth, engines, work, args.rng_seed)
    losses = measure(made, held_out, args.seeds, work)
    found = compare(losses, made, BASELINE, args.rng_seed)
    print(f"\ntraining on {known.name}: {len(known.rows)} rows, {len(held_out)} held out, {args.seeds} seeds")
    print(f"  CLEAR with correction: {json.dumps(audit['new answers'])}; judge: {json.dumps(audit['judge'])}")
    print(f"  {'trained on':44} {'rows':>5} {'bad':>4}  {'loss':>6}  against {BASELINE}, 95 %")
    for one in found:
        low, high = one["change_95"]
        figures = f"{one['loss']:6.3f}  {one['change']:+.3f} ({low:+.3f} to {high:+.3f})"
        print(f"  {one['version']:44} {one['rows']:>5} {one['bad']:>4}  {figures}")
    level = bootstrap(losses[BASELINE].mean(axis=0), rng=np.random.default_rng(args.rng_seed))
    print(f"  the loss itself: {level.estimate:.3f} ({level.low:.3f} to {level.high:.3f}) for {BASELINE}")
    return {"versions": found, "audit": _plain(audit)}


def _plain(audit: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(audit))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("PROVENDER_DATA")
    parser.add_argument(
        "--data", type=Path, default=Path(folder) if folder else None, help="holds noise/ (or PROVENDER_DATA)"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rows", type=int, default=800, help="of alpaca and swaps")
    parser.add_argument("--train-rows", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=120)
    parser.add_argument("--longest", type=int, default=240, help="characters of a row in `training`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise-fraction", type=float, default=0.2)
    parser.add_argument(
        "--swap",
        nargs="+",
        choices=["any", "near"],
        default=["any", "near"],
        help="whose answer: any row's, a similar one's",
    )
    parser.add_argument("--model", default="sprout")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rng-seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for what was computed; a temporary one if not given")
    parser.add_argument("--svg", type=Path, help="where the reliability plot of `swaps` goes")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
