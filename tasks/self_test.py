"""The self-test of decontamination: known leaks planted in the user's own data, and what each rule makes of them."""

from importlib.resources import files

import polars as pl
from pydantic import BaseModel, ConfigDict

from methods.decontaminate import AnyDecontaminate
from methods.keyed import by_key, keyed_uniform
from methods.measuring.leaks import KINDS, recall_per_kind
from schemas.lineage import DatasetRef
from schemas.method import silent
from storage.packs.shelf import Pack
from tasks.bench import Bench, open_store, using
from tasks.decontaminate import dated


class KindRecall(BaseModel):
    """How many planted leaks of a kind one method found; the interval is Wilson's at 95 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    kind: str
    says: str
    planted: int
    found: int
    low: float
    high: float
    should_be_found: bool


class SelfTest(BaseModel):
    """Recall per method and kind, and how many untouched examples each method names: leaks already there, or false flags."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    benchmarks: list[str]
    recall: list[KindRecall]
    untouched: int
    named: dict[str, int]

    @property
    def passed(self) -> bool:
        """Whether, of each kind that hides a whole item and should be found, some method found every leak."""
        best: dict[str, int] = {}
        for one in self.recall:
            if one.should_be_found and one.planted and not KINDS[one.kind].partial:
                best[one.kind] = max(best.get(one.kind, 0), one.found)
        return all(best[one.kind] == one.planted for one in self.recall if one.kind in best)


def self_test(
    dataset: DatasetRef, packs: list[Pack], methods: list[AnyDecontaminate], bench: Bench, max_items: int, examples: int
) -> SelfTest:
    """Plant, judge, count. Nothing of it is stored; calls to engines are cached as always.

    Up to ``examples`` examples of the dataset, by a hash of their ids, are the hosts and the untouched ones; of each
    pack up to ``max_items`` items are planted in every way, and every real rephrasing that ships.
    """
    pool = _some(bench, dataset, examples)
    benchmarks = {p.name: dated(p) for p in packs}
    rephrased = rephrasings().filter(pl.col("benchmark").is_in(list(benchmarks)))
    recall: list[KindRecall] = []
    named: dict[str, int] = {}
    for method in methods:
        tools, _ = using(bench, method, "decontaminate", silent)
        said = method.judge(pool, benchmarks, using=tools, rng=bench.rng(method.identity()))
        named[method.name] = int((said["fate"] != "keep").sum())
        found = recall_per_kind(
            method, benchmarks, using=tools, rng=bench.rng(method.identity()), rng_seed=bench.rng_seed,
            max_items=max_items, hosts=pool["messages"], rephrased=rephrased if rephrased.height else None,
        )  # fmt: skip
        recall += [
            KindRecall(
                method=method.name, kind=one.kind, planted=one.planted, found=one.caught, low=one.recall.low,
                high=one.recall.high, should_be_found=one.should_be_found,
                says=KINDS[one.kind].says if one.kind in KINDS else "rephrased by a language model",
            )
            for one in found
        ]  # fmt: skip
    return SelfTest(
        dataset=str(dataset), benchmarks=sorted(benchmarks), recall=recall, untouched=pool.height, named=named
    )


def rephrasings() -> pl.DataFrame:
    """The rephrasings that ship: ``benchmark``, ``item``, ``text``."""
    return pl.read_parquet((files("packs") / "rephrased.parquet").read_bytes())


def _some(bench: Bench, dataset: DatasetRef, count: int) -> pl.DataFrame:
    """Up to ``count`` examples by a hash of their ids, in bounded memory."""
    kept = pl.DataFrame()
    for rows in open_store(bench).batches(dataset):
        both = pl.concat([kept, rows]) if kept.height else rows
        kept = both[by_key(keyed_uniform(both["id"], bench.rng_seed), both["id"])[:count]]
    return kept.unique("id", maintain_order=True)
