"""Turn what a method said into what the store holds: verdicts aligned with the input, members, edits with their links."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from methods.keyed import halves
from schemas.errors import EmptyStage, InvariantViolation
from schemas.examples import EXAMPLES, FATES, VERDICTS, conform
from schemas.identity import created_id
from schemas.lineage import DatasetRef, Rule
from storage.ingest import content_hashes
from tasks.materialise import Work

#: Verdicts that are written together.
PIECE_ROWS = 1 << 17

#: Verdict columns at rest, see docs/store-format.md.
AT_REST = {"fate": pl.UInt8, "rule": pl.UInt16, "score": pl.Float32, "evidence": pl.String, "successor": pl.UInt32}


def aligned(pool_ids: pl.Series, said: pl.DataFrame, what: str) -> pl.DataFrame:
    """The method's verdicts in the order of the pool; exactly one per example, or ``InvariantViolation``."""
    said = conform(said, VERDICTS, what)
    if said.height != pool_ids.len() or not all_different(said["id"]):
        raise InvariantViolation(
            f"{what} gave {said.height} verdicts, {said['id'].n_unique()} of them distinct, for {pool_ids.len()} examples"
        )
    joined = in_order_of(pool_ids, said)
    strange = joined.filter(pl.col("fate").is_null() | ~pl.col("fate").is_in(FATES))
    if strange.height:
        raise InvariantViolation(f"{what} gave no fate, or an unknown one, for example {strange['id'][0].hex()}")
    return joined


def in_order_of(ids: pl.Series, said: pl.DataFrame) -> pl.DataFrame:
    """What was said (column ``id``) in the order of these ids, null where nothing was; not joined where it is already."""
    if said["id"].equals(ids):
        return said
    return pl.DataFrame({"id": ids}).join(said, on="id", how="left", maintain_order="left")


def all_different(ids: pl.Series) -> bool:
    """Whether no id stands there twice; sorts the first eight bytes of each, which is less than a table of them all."""
    if int((ids.bin.size() == 16).sum()) == len(ids):
        first = np.sort(halves(ids)[0])
        if not bool((first[1:] == first[:-1]).any()):
            return True
    return ids.n_unique() == len(ids)


def named(work: Work) -> str:
    """The step's method as messages name it: ``filter/heuristics``."""
    return f"{work.step.stage}/{work.step.method.get('method', '?')}"


def settle(work: Work, role: str, ids: pl.Series, said: pl.DataFrame, rules: Sequence[Rule]) -> pl.Series:
    """Write a judge's verdicts on the input ``role`` (whose ids these are, in order): see `settle_pieces`."""
    verdicts = aligned(ids, said, named(work))
    return settle_pieces(work, role, verdicts.iter_slices(PIECE_ROWS), rules)


def settle_pieces(
    work: Work, role: str, judged: Iterable[pl.DataFrame], rules: Sequence[Rule], *, in_pieces: bool = False
) -> pl.Series:
    """Write verdicts, members, and edited examples with their links; which examples go on, in the order of the input.

    ``judged`` are `aligned` verdicts, piece by piece in that order. No text is needed: originals of edits are read again.
    What is kept of a row until the end is its verdict as it is stored, or, with ``in_pieces``, nothing: the parts then
    have one object a piece.
    """
    source, positions = work.store.describe(work.inputs[role]), work.store.positions(work.inputs[role])
    tally = Tally()
    stored, members = list[pl.DataFrame](), list[pl.DataFrame]()
    for verdicts in judged:
        where = positions.slice(tally.rows, verdicts.height)
        rows = at_rest(verdicts, rules, named(work), tally.edited)
        edited, goes_on = verdicts["fate"] == "edit", verdicts["fate"].is_in(["keep", "edit"])
        if edited.any():
            put_edits(work, role, where.filter(edited), verdicts.filter(edited), tally.edited)
        new_home = pl.lit(len(source.homes), pl.UInt16)
        moved = where.with_columns(
            pl.when(edited).then(new_home).otherwise("home").alias("home"),
            pl.when(edited).then(rows["successor"]).otherwise("row").alias("row"),
        )
        tally.add(verdicts, edited, goes_on)
        stored.append(rows)
        members.append(moved.filter(goes_on))
        if in_pieces:
            work.draft.put(f"verdicts/{role}", stored.pop())
            work.draft.put("members", members.pop())
    goes_on = tally.goes_on()
    if tally.rows and not goes_on.any():
        raise EmptyStage(
            f"{named(work)} kept none of {tally.rows} examples ({tally.reasons_in_words()}){_most_often(tally, rules)}; "
            "loosen it, or look with `provender trace`"
        )
    if stored or not tally.rows:
        # Not joined into one piece of memory, which would hold them twice: the file is the same, byte for byte.
        work.draft.put(f"verdicts/{role}", pl.concat(stored or [keep_all(0)], rechunk=False))
        work.draft.put("members", pl.concat(members or [positions], rechunk=False))
    work.draft.homes = [*source.homes, *([work.step.output] if tally.edited else [])]
    work.draft.rules = list(rules)
    work.draft.summary.update(tally.histograms())
    return goes_on


def _most_often(tally: "Tally", rules: Sequence[Rule]) -> str:
    """What the rule behind most of the rejections says, if it says more than its name."""
    says = {rule.name: rule.says for rule in rules}.get(tally.commonest() or "")
    return f", most often: {says}" if says else ""


class Tally:
    """What is remembered of verdicts that have been written: nine bytes of a row with a score, a bit of the others."""

    def __init__(self) -> None:
        self.rows = self.edited = 0
        self._reasons: Counter[str] = Counter()
        self._scores: list[pl.DataFrame] = []
        self._goes_on: list[pl.Series] = []

    def add(self, verdicts: pl.DataFrame, edited: pl.Series, goes_on: pl.Series) -> None:
        """Count a piece."""
        self.rows += verdicts.height
        self.edited += int(edited.sum())
        self._reasons.update(dict(verdicts["reason"].drop_nulls().value_counts(name="count").iter_rows()))
        self._goes_on.append(goes_on)
        finite = pl.col("score").is_not_null() & pl.col("score").is_finite()
        self._scores.append(verdicts.filter(finite).select("score", kept=pl.col("fate") == "keep"))

    def goes_on(self) -> pl.Series:
        """Which rows are kept or edited."""
        return pl.concat(self._goes_on) if self._goes_on else pl.Series([], dtype=pl.Boolean)

    def commonest(self) -> str | None:
        """The reason of most rejections."""
        return next((reason for reason, _ in self._reasons.most_common(1)), None)

    def reasons_in_words(self) -> str:
        """``empty-answer 12, too-short 3``."""
        return ", ".join(f"{reason} {count}" for reason, count in self._reasons.most_common()) or "no reason given"

    def histograms(self, bins: int = 24) -> dict[str, Any]:
        """Counts of the scores, kept and not, over equal bins: drawn on pages without reading rows."""
        scored = pl.concat(self._scores) if self._scores else pl.DataFrame()
        if not scored.height:
            return {}
        values, kept = scored["score"].to_numpy(), scored["kept"].to_numpy()
        edges = np.linspace(values.min(), values.max() if values.max() > values.min() else values.min() + 1, bins + 1)
        return {
            "scores": {
                "edges": [round(float(e), 6) for e in edges],
                "kept": np.histogram(values[kept], edges)[0].tolist(),
                "dropped": np.histogram(values[~kept], edges)[0].tolist(),
            }
        }


def at_rest(verdicts: pl.DataFrame, rules: Sequence[Rule], what: str, edited: int = 0) -> pl.DataFrame:
    """Verdicts as they are stored: fate and rule as small numbers, score in single precision.

    The successors of edits are numbered in order, from ``edited`` on.
    """
    index = {rule.name: i for i, rule in enumerate(rules, start=1)}
    unknown = set(verdicts["reason"].drop_nulls().unique()) - set(index)
    if unknown:
        raise InvariantViolation(f"{what} names the rules {sorted(unknown)}, which it does not declare in rules()")
    unexplained = verdicts.filter((pl.col("fate") != "keep") & pl.col("reason").is_null())
    if unexplained.height:
        raise InvariantViolation(f"{what} does not keep example {unexplained['id'][0].hex()} and gives no reason")
    is_edit = pl.col("fate") == "edit"
    number = is_edit.cum_sum().cast(pl.Int64) + (edited - 1)
    return verdicts.select(
        pl.col("fate").replace_strict({f: i for i, f in enumerate(FATES)}, return_dtype=pl.UInt8),
        (pl.col("reason").replace_strict(index, default=0, return_dtype=pl.UInt16) if index else pl.lit(0, pl.UInt16))
        .fill_null(0)
        .alias("rule"),
        pl.col("score").cast(pl.Float32),
        "evidence",
        pl.when(is_edit).then(number).cast(pl.UInt32).alias("successor"),
    )


def put_edits(work: Work, role: str, where: pl.DataFrame, edits: pl.DataFrame, before: int) -> None:
    """Write edited examples: new id and content, everything else from the example they replace, and a link to it.

    ``where`` are the positions of the originals, ``before`` counts edits that were written already. A preference example
    whose new answer is its other one has the two exchanged: see `other_answers`.
    """
    identity = dict(work.step.method)
    old = work.store.take(work.inputs[role], where)
    ids = [created_id(identity, [parent], 0) for parent in old["id"]]
    new = old.with_columns(pl.Series("id", ids, dtype=pl.Binary), edits["successor"].alias("messages"))
    new = new.with_columns(pl.Series("worse", other_answers(old, edits["successor"]), dtype=old.schema["worse"]))
    new = new.with_columns(content_hashes(new).alias("content_hash")).select(*EXAMPLES)
    work.draft.put("examples", new)
    work.draft.put(
        "links",
        pl.DataFrame(
            {
                "row": pl.Series(range(before, before + new.height), dtype=pl.UInt32),
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
