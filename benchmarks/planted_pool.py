"""Which methods find what belongs to the target? Pools of known make-up, and what each method selects from them.

A tenth of a pool is in the domain of the target (GSM8K questions with right solutions), seven tenths are out of it
(instructions and code), two tenths are corrupted: half of those are in-domain questions with an answer to something else,
half are out-of-domain rows whose answer's words are shuffled. Every rank and select method that the unions know and that
runs with the embedded models has its turn; methods that select by a ranking get that of ``rds-plus``. Each draw is
another pool, another target and other seeds; with ``--work`` what is measured is kept and not measured again:

    python -m benchmarks.planted_pool --draws 5 --work FOLDER --minutes 5     # again and again until it says done
    python -m benchmarks.planted_pool --pool 300 --only less rds-plus
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from backends.embed.static import Static
from backends.llm.transformers import Transformers
from backends.tune.torch_loop import TorchTuner
from benchmarks._figures import Figures, Found
from methods.asking.prompts import question
from methods.rank import AnyRank
from methods.rank.dsir import Dsir
from methods.rank.multistage import Multistage
from methods.rank.rds_plus import RdsPlus
from methods.select import AnySelect
from schemas.errors import ProvenderError
from schemas.examples import EXAMPLES, conform, turns
from schemas.identity import digest16
from schemas.method import RankMethod, SelectMethod, Using

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data"
BUDGETS = (0.05, 0.10)
LONGEST = 600  # characters of a row: gradients of short rows are quick
KINDS = ("in-domain", "out-of-domain", "corrupted")
OFFLINE = {"llm", "judge", "student", "embed", "tune"}


def main() -> None:
    """Measure what is not yet measured, while there is time, then print the table of all."""
    args = _arguments()
    kept = Figures(args.work / "planted_pool.jsonl" if args.work else None)
    using, until = engines(), time.perf_counter() + 60 * args.minutes
    results: dict[str, list[Found]] = {}
    left = 0
    for draw in range(args.rng_seed, args.rng_seed + args.draws):
        pool, kinds, target = planted(args.pool, args.target, draw)
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS)
        print(f"draw {draw}: {pool.height} rows: {counts}; {target.height} target rows", flush=True)
        kind_of = dict(zip(pool["id"].to_list(), kinds, strict=True))
        for name, identity, pick in contenders(pool, target, using, draw):
            if args.only and name not in args.only:
                continue
            asked = {"method": identity, "pool": args.pool, "target": args.target, "draw": draw}
            found = kept.get(asked)
            if found is None and time.perf_counter() > until:
                left += 1
                continue
            if found is None:
                found = kept.put(asked, measured(pick, kind_of))
                print(f"  {name:28} {_line(found)}", flush=True)
            results.setdefault(name, []).append(found)
    show(results)
    print(f"{left} measurements left: run the same command again" if left else "done")


def measured(pick: Callable[[int], list[bytes]], kind_of: Mapping[bytes, str]) -> Found:
    """Shares of each kind among the selected at every budget, and the seconds of it all; or why it refused."""
    start = time.perf_counter()
    try:
        chosen = [[kind_of[one] for one in pick(round(budget * len(kind_of)))] for budget in BUDGETS]
    except (ProvenderError, ValueError, AssertionError) as error:
        return {"refused": str(error).splitlines()[0][:110]}
    shares = [{kind: some.count(kind) / len(some) for kind in KINDS} for some in chosen]
    return {"shares": shares, "seconds": round(time.perf_counter() - start, 2)}


def show(results: Mapping[str, Sequence[Found]]) -> None:
    """Means over the draws, with the lowest and the highest, as a table for the documentation."""
    budgets = " | ".join(f"in-domain at {b:.0%} | corrupted" for b in BUDGETS)
    print(f"\n| method | {budgets} | seconds |\n|{'---|' * (2 + 2 * len(BUDGETS))}")
    for name, found in results.items():
        good = [one for one in found if "refused" not in one]
        if not good:
            print(f"| {name} | does not run here: {found[0]['refused']} |")
            continue
        cells: list[str] = []
        for place in range(len(BUDGETS)):
            inside, bad = ([one["shares"][place][kind] for one in good] for kind in ("in-domain", "corrupted"))
            cells += [f"{_two(np.mean(inside))} ({_two(min(inside))} to {_two(max(inside))})", _two(np.mean(bad))]
        draws = "" if len(good) == len(found) else f" ({len(good)} of {len(found)} draws)"
        print(f"| {name}{draws} | {' | '.join(cells)} | {np.mean([one['seconds'] for one in good]):.1f} |")


def _line(found: Found) -> str:
    if "refused" in found:
        return f"does not run here: {found['refused']}"
    cells = [f"{one['in-domain']:.2f} ({one['corrupted']:.2f})" for one in found["shares"]]
    return f"{'  '.join(cells)} {found['seconds']:9.1f} s"


def _two(value: Any) -> str:
    return f"{value:.2f}".removeprefix("0")


def planted(size: int, target_rows: int, rng_seed: int) -> tuple[pl.DataFrame, list[str], pl.DataFrame]:
    """The pool, what each of its rows is, and target rows that are not in it."""
    rng = np.random.default_rng(rng_seed)
    solved = pl.read_ndjson(SHIPPED / "gsm8k_solutions.jsonl").unique("question", maintain_order=True)
    near, asked = (
        [(row["question"], row["solution"]) for row in solved.filter(pl.col("is_correct") == right).to_dicts()]
        for right in (True, False)
    )
    far = [
        (question(row["instruction"], row["input"] or ""), row["output"])
        for row in pl.read_ndjson(SHIPPED / "permissive_instructions.jsonl").to_dicts()
    ] + [
        (question(row["instruction"], row["input"] or ""), row["response"])
        for row in pl.read_ndjson(SHIPPED / "gpteacher_codegen.jsonl").to_dicts()
    ]
    near, asked, far = (_short(rows, rng) for rows in (near, asked, far))
    swapped, shuffled = size // 10, size // 10
    good, other = size // 10, size - 3 * (size // 10)
    wanted = target_rows + good
    if len(near) < wanted or len(asked) < swapped or len(far) < other + swapped + shuffled:
        raise SystemExit(f"{len(near)} in-domain and {len(far)} other rows are too few for a pool of {size}")
    aim, inside = near[:target_rows], near[target_rows:wanted]
    outside, strange, mixed = (
        far[:other],
        far[other : other + swapped],
        far[other + swapped : other + swapped + shuffled],
    )
    bad = [(prompt, answer) for (prompt, _), (_, answer) in zip(asked[:swapped], strange, strict=True)]
    bad += [(prompt, " ".join(rng.permutation(answer.split()))) for prompt, answer in mixed]
    rows = inside + outside + bad
    kinds = ["in-domain"] * len(inside) + ["out-of-domain"] * len(outside) + ["corrupted"] * len(bad)
    order = rng.permutation(len(rows))
    pool = frame([rows[i] for i in order], "pool")
    return pool, [kinds[i] for i in order], frame(aim, "target")


def frame(rows: Sequence[tuple[str, str]], source: str) -> pl.DataFrame:
    """EXAMPLES of questions and answers."""
    said = [turns(("user", asked), ("assistant", answer)) for asked, answer in rows]
    ids = [digest16("\n".join([source, *row]).encode()) for row in rows]
    made = {"id": ids, "content_hash": ids, "source": [source] * len(rows), "messages": said}
    kinds = {name: EXAMPLES[name] for name in made}
    table = pl.DataFrame(made, kinds).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in EXAMPLES.items() if name not in made
    )
    return conform(table.with_columns(synthetic_depth=pl.lit(0, pl.UInt8)), EXAMPLES, "planted pool")


Contender = tuple[str, dict[str, Any], Callable[[int], list[bytes]]]


def contenders(pool: pl.DataFrame, target: pl.DataFrame, using: Using, rng_seed: int) -> list[Contender]:
    """Every rank method, cut at the budget, and every select method: name, settings, and a function from budget to ids."""
    ranking: list[pl.DataFrame] = []

    def fresh() -> np.random.Generator:
        return np.random.default_rng(rng_seed)

    def ranked(method: RankMethod) -> Callable[[int], list[bytes]]:
        known: list[pl.DataFrame] = []

        def pick(budget: int) -> list[bytes]:
            if not known:
                known.append(method.rank(pool, target=target, using=using, rng=fresh()))
            best = known[0].sort(["score", "id"], descending=[True, False], nulls_last=True)
            return best["id"].head(budget).to_list()

        return pick

    def selected(kind: type[SelectMethod], fields: dict[str, Any]) -> Callable[[int], list[bytes]]:
        def pick(budget: int) -> list[bytes]:
            if not ranking:
                ranking.append(RdsPlus().rank(pool, target=target, using=using, rng=fresh()))
            none = pl.DataFrame({"id": pool["id"]}).with_columns(score=pl.lit(None, pl.Float64))
            method = kind(keep_examples=budget, **fields)
            said = method.cut(pool, ranking[0] if kind.ranked else none, using=using, rng=fresh())
            return said.filter(pl.col("fate") == "keep")["id"].to_list()

        return pick

    def rank(name: str, method: RankMethod) -> Contender:
        return name, method.identity(), ranked(method)

    found = [rank(_tag(kind), kind()) for kind in _members(AnyRank) if kind.needs <= OFFLINE]
    found.append(rank("multistage, training", Multistage(form="training", window=64)))
    found.append(rank("dsir, per token", Dsir(per_token=True, smoothing=1, resample=False)))
    for kind in _members(AnySelect):
        if kind.needs <= OFFLINE and _tag(kind) not in ("top", "quota"):  # these two are the cut itself
            fields = {"weights": "rank"} if "weights" in kind.model_fields else {}
            identity = kind(keep_examples=1, **fields).identity()
            found.append((f"select {_tag(kind)}", identity, selected(kind, fields)))
    return found


def engines() -> Using:
    """The embedded models: sprout, static vectors, and a LoRA proxy of sprout."""
    sprout = Transformers(model="sprout", threads=1).open()
    tuner = TorchTuner(adapter="lora", threads=1, epochs=1, learning_rate=1e-3).open()
    return Using(_llm=sprout, _judge=sprout, _student=sprout, _embed=Static().open(), _tune=_Tuner(tuner))


class _Tuner:
    """The engine with ``tuned`` and ``untuned``, which elsewhere the store adds: nothing is kept after the run."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def identity(self) -> Any:
        return self.engine.identity()

    def start(self, rng_seed: int = 0) -> Any:
        return self.engine.start(rng_seed)

    def untuned(self) -> Any:
        return self.engine.base()

    def tuned(self, conversations: Any, *, rng_seed: int = 0, keep_order: bool = False) -> Any:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.engine.train_into(path, conversations, rng_seed=rng_seed, keep_order=keep_order)
            return self.engine.load(path)


def _members(union: Any) -> list[Any]:
    return list(get_args(get_args(union)[0]))


def _tag(kind: Any) -> str:
    return get_args(kind.model_fields["method"].annotation)[0]


def _short(rows: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    kept = [row for row in rows if len(row[0]) + len(row[1]) <= LONGEST and row[0].strip() and len(row[1].split()) > 3]
    return [kept[int(i)] for i in rng.permutation(len(kept))]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=300, help="rows; a tenth is in the domain of the target")
    parser.add_argument("--target", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="methods, by name")
    parser.add_argument("--rng-seed", type=int, default=0, help="of the first draw; the others count on from it")
    parser.add_argument("--draws", type=int, default=1, help="pools to draw; the table has means and ranges over them")
    parser.add_argument("--work", type=Path, help="folder in which what is measured is kept, and found again")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing new after so long")
    return parser.parse_args()


if __name__ == "__main__":
    main()
