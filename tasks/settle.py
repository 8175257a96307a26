"""Turn what a method said into what the store holds: verdicts aligned with the input, members, edits with their links."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from schemas.errors import EmptyStage, InvariantViolation
from schemas.examples import EXAMPLES, FATES, VERDICTS, conform
from schemas.identity import created_id
from schemas.lineage import DatasetRef, Rule
from storage.ingest import content_hashes
from tasks.materialise import Work

#: Verdict columns at rest, see docs/store-format.md.
AT_REST = {"fate": pl.UInt8, "rule": pl.UInt16, "score": pl.Float32, "evidence": pl.String, "successor": pl.UInt32}


def aligned(pool_ids: pl.Series, said: pl.DataFrame, what: str) -> pl.DataFrame:
    """The method's verdicts in the order of the pool; exactly one per example, or ``InvariantViolation``."""
    said = conform(said, VERDICTS, what)
    if said.height != pool_ids.len() or said["id"].n_unique() != said.height:
        raise InvariantViolation(
            f"{what} gave {said.height} verdicts, {said['id'].n_unique()} of them distinct, for {pool_ids.len()} examples"
        )
    joined = pl.DataFrame({"id": pool_ids}).join(said, on="id", how="left", maintain_order="left")
    strange = joined.filter(pl.col("fate").is_null() | ~pl.col("fate").is_in(FATES))
    if strange.height:
        raise InvariantViolation(f"{what} gave no fate, or an unknown one, for example {strange['id'][0].hex()}")
    return joined


def settle(work: Work, role: str, pool: pl.DataFrame, said: pl.DataFrame, rules: Sequence[Rule]) -> None:
    """Write a judge's verdicts on the input ``role``, the members that go on, and edited examples with their links."""
    what = f"{work.step.stage}/{work.step.method.get('method', '?')}"
    verdicts = aligned(pool["id"], said, what)
    source = work.store.describe(work.inputs[role])
    homes = list(source.homes)
    positions = work.store.positions(work.inputs[role])
    edits = verdicts.with_row_index("at").filter(pl.col("fate") == "edit")
    successor_of = dict(zip(edits["at"].to_list(), range(edits.height), strict=True))
    rows = at_rest(verdicts, rules, what, successor_of)
    members = positions.filter(verdicts["fate"].is_in(["keep", "edit"]))
    if edits.height:
        homes = [*homes, work.step.output]
        keep_at = verdicts.with_row_index("at").filter(pl.col("fate").is_in(["keep", "edit"]))["at"].to_numpy()
        home, row = members["home"].to_numpy().copy(), members["row"].to_numpy().copy()
        where = np.searchsorted(keep_at, edits["at"].to_numpy())
        home[where], row[where] = len(homes) - 1, np.arange(edits.height)
        members = pl.DataFrame({"home": home, "row": row}, schema={"home": pl.UInt16, "row": pl.UInt32})
        put_edits(work, pool, positions, edits)
    if not members.height and pool.height:
        raise EmptyStage(
            f"{what} kept none of {pool.height} examples ({reasons_in_words(verdicts)}); "
            "loosen it, or look with `provender trace`"
        )
    work.draft.homes = homes
    work.draft.rules = list(rules)
    work.draft.put(f"verdicts/{role}", rows)
    work.draft.put("members", members)
    work.draft.summary.update(histograms(verdicts))


def settle_batches(
    work: Work, role: str, judged: Iterable[tuple[pl.DataFrame, pl.DataFrame]], rules: Sequence[Rule]
) -> None:
    """``settle`` for verdicts that come batch by batch, each with its examples, in the order of the input; no edits."""
    what = f"{work.step.stage}/{work.step.method.get('method', '?')}"
    positions = work.store.positions(work.inputs[role])
    done, kept, scored, reasons = 0, 0, list[pl.DataFrame](), list[pl.DataFrame]()
    for examples, said in judged:
        verdicts = aligned(examples["id"], said, what)
        if (verdicts["fate"] == "edit").any():
            raise InvariantViolation(f"{what} edits an example, which a method that streams cannot")
        work.draft.put(f"verdicts/{role}", at_rest(verdicts, rules, what))
        members = positions.slice(done, verdicts.height).filter(verdicts["fate"] == "keep")
        work.draft.put("members", members)
        scored.append(verdicts.filter(pl.col("score").is_not_null()).select("fate", "score"))
        reasons.append(verdicts["reason"].drop_nulls().value_counts(name="count"))
        done, kept = done + verdicts.height, kept + members.height
    if done and not kept:
        counted = pl.concat(reasons).group_by("reason").agg(pl.col("count").sum()).sort("count", descending=True)
        told = ", ".join(f"{reason} {count}" for reason, count in counted.iter_rows())
        raise EmptyStage(f"{what} kept none of {done} examples ({told}); loosen it, or look with `provender trace`")
    if not done:
        work.draft.put(f"verdicts/{role}", keep_all(0))
        work.draft.put("members", positions)
    work.draft.homes = list(work.store.describe(work.inputs[role]).homes)
    work.draft.rules = list(rules)
    if scored:
        work.draft.summary.update(histograms(pl.concat(scored)))


def at_rest(
    verdicts: pl.DataFrame, rules: Sequence[Rule], what: str, successor_of: dict[int, int] | None = None
) -> pl.DataFrame:
    """Verdicts as they are stored: fate and rule as small numbers, score in single precision."""
    index = {rule.name: i for i, rule in enumerate(rules, start=1)}
    unknown = set(verdicts["reason"].drop_nulls().unique()) - set(index)
    if unknown:
        raise InvariantViolation(f"{what} names the rules {sorted(unknown)}, which it does not declare in rules()")
    unexplained = verdicts.filter((pl.col("fate") != "keep") & pl.col("reason").is_null())
    if unexplained.height:
        raise InvariantViolation(f"{what} does not keep example {unexplained['id'][0].hex()} and gives no reason")
    successors = [None] * verdicts.height
    for at, row in (successor_of or {}).items():
        successors[at] = row  # type: ignore[call-overload]
    return verdicts.select(
        pl.col("fate").replace_strict({f: i for i, f in enumerate(FATES)}, return_dtype=pl.UInt8),
        (pl.col("reason").replace_strict(index, default=0, return_dtype=pl.UInt16) if index else pl.lit(0, pl.UInt16))
        .fill_null(0)
        .alias("rule"),
        pl.col("score").cast(pl.Float32),
        "evidence",
    ).with_columns(pl.Series("successor", successors, dtype=pl.UInt32))


def put_edits(work: Work, pool: pl.DataFrame, positions: pl.DataFrame, edits: pl.DataFrame) -> None:
    """Write edited examples: new id and content, everything else from the example they replace, and a link to it.

    A preference example whose new answer is its other one has the two exchanged: see `other_answers`.
    """
    identity = dict(work.step.method)
    old = pool[edits["at"].to_numpy()]
    ids = [created_id(identity, [parent], 0) for parent in old["id"]]
    new = old.with_columns(pl.Series("id", ids, dtype=pl.Binary), edits["successor"].alias("messages"))
    new = new.with_columns(pl.Series("worse", other_answers(old, edits["successor"]), dtype=old.schema["worse"]))
    new = new.with_columns(content_hashes(new).alias("content_hash")).select(*EXAMPLES)
    work.draft.put("examples", new)
    where = positions[edits["at"].to_numpy()]
    work.draft.put(
        "links",
        pl.DataFrame(
            {
                "row": pl.Series(range(new.height), dtype=pl.UInt32),
                "parents": where.select(pl.concat_list(pl.struct("home", "row")).alias("parents"))["parents"],
                "calls": calls_in(edits["evidence"]),
                "index": pl.Series([0] * new.height, dtype=pl.UInt32),
                "evidence": edits["evidence"],
            }
        ),
    )


def other_answers(old: pl.DataFrame, successors: pl.Series) -> list[list[dict[str, Any]] | None]:
    """What ``worse`` becomes: as it was, but where the edited conversation ends with it, the turns it took the place of."""
    found: list[list[dict[str, Any]] | None] = []
    for messages, worse, now in zip(
        old["messages"].to_list(), old["worse"].to_list(), successors.to_list(), strict=True
    ):
        before = len(now) - len(worse or ())
        taken = bool(worse) and now[before:] == worse and now[:before] == messages[:before]
        found.append(messages[before:] if taken else worse)
    return found


def calls_in(evidence: pl.Series) -> pl.Series:
    """The call keys that evidence names under ``calls`` (hex), as bytes."""
    found = evidence.str.json_path_match("$.calls").fill_null("[]").str.extract_all(r"[0-9a-f]{32}")
    return found.list.eval(pl.element().str.decode("hex")).cast(pl.List(pl.Binary)).alias("calls")


def histograms(verdicts: pl.DataFrame, bins: int = 24) -> dict[str, Any]:
    """Counts of the scores, kept and not, over equal bins: drawn on pages without reading rows."""
    scored = verdicts.filter(pl.col("score").is_not_null() & pl.col("score").is_finite())
    if not scored.height:
        return {}
    values = scored["score"].to_numpy()
    edges = np.linspace(values.min(), values.max() if values.max() > values.min() else values.min() + 1, bins + 1)
    kept = (scored["fate"] == "keep").to_numpy()
    return {
        "scores": {
            "edges": [round(float(e), 6) for e in edges],
            "kept": np.histogram(values[kept], edges)[0].tolist(),
            "dropped": np.histogram(values[~kept], edges)[0].tolist(),
        }
    }


def reasons_in_words(verdicts: pl.DataFrame) -> str:
    """``empty-answer 12, too-short 3``."""
    counts = verdicts.filter(pl.col("reason").is_not_null())["reason"].value_counts(sort=True)
    return ", ".join(f"{reason} {count}" for reason, count in counts.iter_rows()) or "no reason given"


def keep_all(rows: int) -> pl.DataFrame:
    """Stored verdicts that keep every row of an input."""
    return pl.DataFrame(
        {
            "fate": pl.zeros(rows, pl.UInt8, eager=True),
            "rule": pl.zeros(rows, pl.UInt16, eager=True),
            "score": pl.repeat(None, rows, dtype=pl.Float32, eager=True),
            "evidence": pl.repeat(None, rows, dtype=pl.String, eager=True),
            "successor": pl.repeat(None, rows, dtype=pl.UInt32, eager=True),
        },
        schema=AT_REST,
    )


def merged_homes(work: Work, refs: Sequence[DatasetRef]) -> tuple[list[DatasetRef], list[pl.DataFrame]]:
    """The homes of several inputs as one list, and each input's positions pointing into it."""
    homes: list[DatasetRef] = []
    index: dict[DatasetRef, int] = {}
    moved = []
    for ref in refs:
        table = []
        for home in work.store.describe(ref).homes:
            if home not in index:
                index[home] = len(homes)
                homes.append(home)
            table.append(index[home])
        positions = work.store.positions(ref)
        to = np.asarray(table or [0], dtype=np.uint16)
        moved.append(positions.with_columns(pl.Series("home", to[positions["home"].to_numpy()], dtype=pl.UInt16)))
    return homes, moved
