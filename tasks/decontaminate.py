"""Decontaminate: examples that give a benchmark away are dropped or only flagged, batch by batch, every pair kept."""

import polars as pl
from pydantic import BaseModel, ConfigDict

from methods.decontaminate import AnyDecontaminate
from methods.decontaminate._sought import looked_for
from methods.parallel import in_order
from methods.texts.matching import PairMethod, entries
from schemas.lineage import DatasetRef, Rule
from storage.packs.reviews import ITEMS_PART, PAIRS_PART
from storage.packs.shelf import Pack, load_pack
from tasks.bench import Bench
from tasks.columns import pool_for
from tasks.events import Event, emit
from tasks.figures import COUNTED, Figures
from tasks.materialise import Work, materialise
from tasks.settle import settle
from tasks.stage_task import stage_task

#: Examples that are looked at together; with the few batches in flight this bounds the memory of a step.
BATCH_ROWS = 32_768

SOURCE_RULE = "contaminated-source"


class Policy(BaseModel):
    """What becomes of examples that a rule names.

    ``report_only`` keeps them, flagged. ``max_source_overlap`` drops a whole source that holds more than this share of any
    benchmark's items (Tülu 3: 0.02).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    report_only: bool = False
    max_source_overlap: float | None = None


@stage_task("decontaminate {method.method}")
def decontaminate_examples(
    pool: DatasetRef, benchmarks: tuple[str, ...], method: AnyDecontaminate, bench: Bench, policy: Policy = Policy()
) -> DatasetRef:
    """The examples that give no benchmark away; evidence names the item and the span in both texts.

    Beside the verdicts stand every pair of an example and an item that a rule flagged, and the texts of those items.
    """
    packs = [load_pack(name) for name in benchmarks]

    def compute(work: Work) -> None:
        ids, said, pairs, figures = judged(work, pool, packs, method)
        rules = list(method.settled_rules(said))
        tainted = overlapping_sources(work, pool, packs, pairs, policy)
        if tainted and not policy.report_only:
            said = without_sources(work, pool, said, tainted)
            rules.append(source_rule(policy))
            figures = None
        if policy.report_only:
            said = said.with_columns(pl.lit("keep").alias("fate"))
            figures = None
        settle(work, "pool", ids, said, rules)
        work.draft.put(PAIRS_PART, pairs)
        work.draft.put(ITEMS_PART, items_of(packs, pairs))
        work.draft.summary.update((figures or figures_of_kept(work, pool, said)).summary())
        work.draft.summary["benchmarks"] = {
            p.name: {
                "version": p.version,
                "digest": p.digest,
                "items": p.items.height,
                "looked_for": looked_for(method, p.items),
            }
            for p in packs
        }
        for name, told in work.draft.summary["benchmarks"].items():
            if not told["looked_for"]:
                note = f"none of the {told['items']:,} items of {name} has enough words to be looked for; lower `min_words`"
                emit(Event("note", work.step.stage, method.name, str(work.step.output), note=note))
        work.draft.summary["sources_over_the_limit"] = tainted
        emit(Event("progress", work.step.stage, method.name, str(work.step.output), done=len(ids), total=len(ids)))

    digests = {f"benchmark/{p.name}": p.digest for p in packs}
    also = {name: value for name, value in policy.model_dump().items() if value}
    return materialise("decontaminate", method, [("pool", pool)], bench, compute, content=digests, also=also)


def judged(
    work: Work, pool: DatasetRef, packs: list[Pack], method: AnyDecontaminate
) -> tuple[pl.Series, pl.DataFrame, pl.DataFrame, Figures | None]:
    """Ids in order, verdicts, flagged pairs (``position`` in the pool), and figures of what is kept."""
    benchmarks = {p.name: dated(p) for p in packs}
    if not isinstance(method, PairMethod):
        rows = pool_for(work.store, pool, method)
        said = method.judge(rows, benchmarks, using=work.using, rng=work.rng)
        return rows["id"], said, pairs_in(rows, said), None
    judge = method.judge_batches(benchmarks, work.using)
    names = entries(benchmarks).select("benchmark", "item").with_row_index("entry", offset=0)
    total = work.store.describe(pool).counts.rows_out
    ids, verdicts, pairs, figures = [], [], [], Figures()
    done = 0

    def one(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        return rows, *judge(rows)

    # An engine is not asked from several threads at once; the rules on words are, and let each other run.
    for rows, said, met in in_order(one, work.store.batches(pool, BATCH_ROWS), threads=1 if method.needs else None):
        ids.append(rows["id"])
        verdicts.append(said)
        pairs.append(met.with_columns(pl.col("row") + done))
        figures.add(rows.join(said.filter(fate="keep").select("id"), on="id", how="semi"))
        done += rows.height
        work.using.progress(done, total, "examples")
    flagged = (
        pl.concat(pairs)
        .with_columns(pl.col("entry").cast(pl.UInt32))
        .join(names, on="entry", maintain_order="left")
        .select(PAIR_COLUMNS)
    )
    return pl.concat(ids), pl.concat(verdicts), flagged, figures


#: Columns of the part in which flagged pairs are kept; ``position`` counts in the step's input.
PAIR_COLUMNS = [
    pl.col("row").cast(pl.UInt32).alias("position"), pl.col("benchmark"), pl.col("item"), pl.col("field"),
    pl.col("rule"), pl.col("turn").cast(pl.UInt32), pl.col("worse"), pl.col("coverage").alias("closeness"),
]  # fmt: skip


def dated(pack: Pack) -> pl.DataFrame:
    """A pack's items with the day they could first be read, where that is known."""
    return (
        pack.items if pack.released is None else pack.items.with_columns(pl.lit(str(pack.released)).alias("released"))
    )


def pairs_in(rows: pl.DataFrame, said: pl.DataFrame) -> pl.DataFrame:
    """The pairs that the evidence of rejected examples names, for methods that keep no list of pairs."""
    named = said.filter(pl.col("fate") == "reject").select(
        "id",
        pl.col("reason").alias("rule"),
        *(pl.col("evidence").str.json_path_match(f"$.{n}").alias(n) for n in ("benchmark", "item", "field")),
        pl.col("evidence").str.json_path_match("$.turn").cast(pl.UInt32).alias("turn"),
        (pl.col("evidence").str.json_path_match("$.in") == "worse").fill_null(value=False).alias("worse"),
        pl.col("score").alias("coverage"),
    )
    places = rows.select("id").with_row_index("row")
    named = named.filter(pl.col("item").is_not_null())
    return places.join(named, on="id", how="inner", maintain_order="left").select(PAIR_COLUMNS)


def items_of(packs: list[Pack], pairs: pl.DataFrame) -> pl.DataFrame:
    """The texts of the items that were hit, so that a hit can be read when the pack has moved on."""
    hit = pairs.select("benchmark", "item").unique()
    texts = pl.concat([p.items.select(pl.lit(p.name).alias("benchmark"), "item", "prompt", "answer") for p in packs])
    return texts.join(hit, on=["benchmark", "item"], how="semi", maintain_order="left")


def overlapping_sources(
    work: Work, pool: DatasetRef, packs: list[Pack], pairs: pl.DataFrame, policy: Policy
) -> dict[str, dict[str, float]]:
    """Sources that hold more than the allowed share of a benchmark's items: ``{source: {benchmark: share}}``."""
    if policy.max_source_overlap is None or not pairs.height:
        return {}
    items = {p.name: p.items.height for p in packs}
    sources = work.store.pool(pool, ["source"])["source"]
    hit = pairs.with_columns(sources.gather(pairs["position"]).alias("source"))
    found: dict[str, dict[str, float]] = {}
    counted = hit.group_by("source", "benchmark").agg(pl.col("item").n_unique()).sort("source", "benchmark")
    for source, benchmark, count in counted.iter_rows():
        share = count / items[benchmark]
        if share > policy.max_source_overlap:
            found.setdefault(source, {})[benchmark] = round(share, 4)
    return found


def without_sources(
    work: Work, pool: DatasetRef, said: pl.DataFrame, tainted: dict[str, dict[str, float]]
) -> pl.DataFrame:
    """The verdicts, with what was kept of these sources rejected."""
    of = work.store.pool(pool, ["id", "source"])
    taken = pl.col("source").is_in(list(tainted)) & (pl.col("fate") == "keep")
    return (
        said.join(of, on="id", maintain_order="left")
        .with_columns(
            pl.when(taken).then(pl.lit(SOURCE_RULE)).otherwise("reason").alias("reason"),
            pl.when(taken).then(pl.lit("reject")).otherwise("fate").alias("fate"),
        )
        .drop("source")
    )


def source_rule(policy: Policy) -> Rule:
    """The rule by which a whole source goes."""
    return Rule(
        name=SOURCE_RULE,
        says="the example's source holds too many of a benchmark's items, so none of its examples is trusted",
        threshold=policy.max_source_overlap,
        direction="keep-below",
    )


def figures_of_kept(work: Work, pool: DatasetRef, said: pl.DataFrame) -> Figures:
    """Figures of the examples that go on, from another pass over the pool."""
    figures, kept = Figures(), said.filter(fate="keep").select("id")
    for rows in work.store.batches(pool, BATCH_ROWS, ["id", *COUNTED]):
        figures.add(rows.join(kept, on="id", how="semi"))
    return figures
