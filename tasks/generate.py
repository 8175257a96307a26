"""Let a teacher write new examples; what it refused is kept with its reason."""

import polars as pl

from methods.generate import AnyGenerate
from schemas.errors import EmptyStage, EngineDown
from schemas.examples import CREATED, EXAMPLES, REFUSED, conform
from schemas.identity import created_id
from schemas.lineage import DatasetRef
from schemas.method import Generated, GenerateMethod
from storage.ingest import content_hashes
from tasks.bench import Bench, open_store
from tasks.figures import figures_of
from tasks.materialise import Work, materialise
from tasks.stage_task import stage_task


@stage_task("generate {method.method}", "llm")
def generate_examples(
    name: str, seeds: DatasetRef, method: AnyGenerate, bench: Bench, terms: str | None = None
) -> DatasetRef:
    """A pool ``name`` of new examples, each with its parents among the seeds and the calls that wrote it.

    ``terms`` (a licence, or the terms of the teacher) joins the licences that the examples inherit.
    """

    def compute(work: Work) -> None:
        shown = work.store.pool(seeds)
        made = method.generate(shown, using=work.using, rng=work.rng)
        stop_if_unanswered(method, made)
        write(work, name, method, seeds, shown, made, terms)

    made = materialise(
        "generate",
        method,
        [("seeds", seeds)],
        bench,
        compute,
        also={"pool": name, **({"license": terms} if terms else {})},
    )
    if not bench.dry:
        refuse_if_empty(made, method, bench)
    return made


def stop_if_unanswered(method: GenerateMethod, made: Generated) -> None:
    """``EngineDown`` where no call was answered at all: nothing is kept that a rerun would take for the result."""
    if made.examples.height or not made.refused.height or not made.refused["reason"].str.starts_with("call-").all():
        return
    told = made.refused.group_by("reason").agg(pl.len(), pl.col("evidence").drop_nulls().mode().first()).sort("len")
    reason, count, evidence = told.row(-1)
    said = pl.Series([evidence], dtype=pl.String).str.json_path_match("$.message")[0]
    raise EngineDown(
        f"{method.name}: none of {made.refused.height:,} candidates was answered ({reason} {count:,}"
        f"{f': {said}' if said else ''}); mend the engine or its settings and run again"
    )


def refuse_if_empty(made: DatasetRef, method: GenerateMethod, bench: Bench) -> None:
    """``EmptyStage`` where nothing was accepted; the step is kept, so that what was refused can be looked at."""
    manifest = open_store(bench).describe(made)
    if manifest.counts.created:
        return
    refused = dict(manifest.summary.get("refused") or {})
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items(), key=lambda kv: -kv[1])[:5])
    raise EmptyStage(
        f"{method.name} accepted none of {sum(refused.values()):,} candidates ({reasons or 'none was made'}); "
        f"`provender show {made}` and its refused rows say why: loosen what refused them, raise max_candidates, or use a "
        "model that can do it"
    )


def write(
    work: Work,
    name: str,
    method: GenerateMethod,
    seeds: DatasetRef,
    shown: pl.DataFrame,
    made: Generated,
    terms: str | None = None,
) -> None:
    """Put the new examples, their links and the refused candidates into the draft."""
    what = f"generate/{method.name}"
    created, refused = conform(made.examples, CREATED, what), conform(made.refused, REFUSED, f"{what} refused")
    places = places_of(work, seeds, shown)
    order = created.with_columns(pl.int_range(pl.len()).over("parents").alias("index"))
    identity = method.identity()
    pedigree = parents_figures(created, shown)
    examples = created.with_columns(
        pl.Series(
            "id",
            [created_id(identity, p, i) for p, i in zip(order["parents"].to_list(), order["index"], strict=True)],
            dtype=pl.Binary,
        ),
        pl.lit(name).alias("source"),
        under(pedigree["license"], terms),
        pedigree["synthetic_depth"],
        pl.lit(None, pl.String).alias("extra"),
    )
    examples = examples.with_columns(content_hashes(examples).alias("content_hash")).select(*EXAMPLES)
    work.draft.homes = [work.step.output, *work.store.describe(seeds).homes]
    work.draft.put("examples", examples)
    links = order.with_row_index("row").join(placed(order, places), on="row", how="left", maintain_order="left")
    work.draft.put(
        "links",
        links.select("row", "places", "calls", pl.col("index").cast(pl.UInt32), "evidence").rename(
            {"places": "parents"}
        ),
    )
    if refused.height:
        work.draft.put(
            "refused",
            refused.with_row_index("row")
            .join(placed(refused, places), on="row", how="left", maintain_order="left")
            .select(
                pl.lit(None, pl.Int64).alias("line"),
                "text",
                "reason",
                "evidence",
                pl.col("places").alias("parents"),
                "calls",
            ),
        )
    reasons = refused["reason"].value_counts(sort=True)
    work.draft.summary.update(figures_of(examples) | {"notes": dict(made.notes), "refused": dict(reasons.iter_rows())})


def under(inherited: pl.Series, terms: str | None) -> pl.Series:
    """Inherited licences joined with the teacher's terms; an unknown one stays in sight as ``LicenseRef-unknown``.

    >>> under(pl.Series("license", ["MIT", None]), "LicenseRef-OpenAI-terms").to_list()
    ['MIT AND LicenseRef-OpenAI-terms', 'LicenseRef-unknown AND LicenseRef-OpenAI-terms']
    """
    return inherited if terms is None else inherited.fill_null("LicenseRef-unknown") + f" AND {terms}"


def places_of(work: Work, seeds: DatasetRef, shown: pl.DataFrame) -> pl.DataFrame:
    """Where each seed example lives: id → home (index into the draft's homes, 0 is the new version itself) and row."""
    positions = work.store.positions(seeds)
    return pl.DataFrame(
        {"parent": shown["id"], "home": positions["home"] + 1, "row_in_home": positions["row"]},
        schema={"parent": pl.Binary, "home": pl.UInt16, "row_in_home": pl.UInt32},
    ).unique("parent", keep="first")


def placed(rows: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """For each row, its parents as (home, row) in their order; rows without parents get an empty list."""
    place = pl.struct(pl.col("home"), pl.col("row_in_home").alias("row"))
    found = (
        rows.with_row_index("row")
        .select("row", pl.col("parents").alias("parent"))
        .explode("parent")
        .join(places, on="parent", how="inner", maintain_order="left")
        .group_by("row", maintain_order=True)
        .agg(place.alias("places"))
    )
    empty = pl.lit([], dtype=pl.List(pl.Struct({"home": pl.UInt16, "row": pl.UInt32})))
    every = rows.with_row_index("row").select("row")
    return every.join(found, on="row", how="left", maintain_order="left").with_columns(
        pl.col("places").fill_null(empty)
    )


def parents_figures(created: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """What a new example inherits: the licences of its parents (joined by AND) and one more synthetic depth."""
    inherited = (
        created.with_row_index("row")
        .select("row", pl.col("parents").alias("id"))
        .explode("id")
        .join(shown.select("id", "license", "synthetic_depth"), on="id", how="left", maintain_order="left")
        .group_by("row", maintain_order=True)
        .agg(
            pl.col("license").drop_nulls().unique().sort().str.join(" AND ").alias("license"),
            (pl.col("synthetic_depth").max().fill_null(0) + 1).cast(pl.UInt8).alias("synthetic_depth"),
            pl.col("license").is_null().any().alias("unknown"),
        )
    )
    return inherited.with_columns(
        pl.when(pl.col("unknown") | (pl.col("license") == "")).then(None).otherwise("license").alias("license")
    )
