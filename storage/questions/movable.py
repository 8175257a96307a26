"""Which thresholds of a step can be moved after the fact, and which rows would then have stayed: stored scores alone.

Three kinds of steps: one threshold; a window (a lower and an upper bound on one score, both kept rows and dropped ones
scored); several rules of which only the dropped rows carry a score, so that each can be loosened but not tightened.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from schemas.errors import StoreError, UsageError
from schemas.lineage import DatasetRef, Manifest
from storage.layout import KEEP, REJECT
from storage.questions import figures
from storage.questions.dense import Array, threshold_rules, verdict_arrays
from storage.questions.view import View
from storage.questions.views import Histogram
from storage.questions.words import method_tag, number
from storage.seek import Reader, legible, role_part

MIXED = "several rules with thresholds share one score; which of them a kept row's score belongs to is not stored"


class Threshold(View):
    """A threshold that can be moved, and where it stands."""

    key: str  # "clear", "heuristics.answer-too-short"; with the step's first digits where two steps would share it
    ref: str
    stage: str
    method: str
    rule: str
    says: str
    role: str
    threshold: float
    direction: str
    scored: int  # rows whose fate the threshold decided
    low: float
    high: float
    histogram: Histogram
    looser_only: bool = False  # the kept rows' scores are not stored: rows can come back, none can be dropped

    @property
    def group(self) -> str:
        """Thresholds of one group cut the same rows."""
        return f"{self.ref}/{self.role}"


class Fixed(View):
    """A threshold that cannot be moved after the fact, and why."""

    ref: str
    rule: str
    why: str


def movable(reader: Reader, ref: DatasetRef) -> tuple[tuple[Threshold, ...], tuple[Fixed, ...]]:
    """Thresholds on the way to a version that can be moved, and those that cannot."""
    found: list[Threshold] = []
    fixed: list[Fixed] = []
    for manifest in reader.store.upstream(ref):
        try:
            with legible(str(manifest.ref)):
                moving, staying = _of_step(reader, manifest)
        except StoreError as error:
            moving, staying = [], [Fixed(ref=str(manifest.ref), rule="", why=str(error))]
        found += moving
        fixed += staying
    keys = [one.key for one in found]
    return tuple(
        one if keys.count(one.key) == 1 else one.model_copy(update={"key": f"{one.key}-{one.ref[-16:][:6]}"})
        for one in found
    ), tuple(fixed)


def _of_step(reader: Reader, manifest: Manifest) -> tuple[list[Threshold], list[Fixed]]:
    drawn = threshold_rules(manifest)
    found: list[Threshold] = []
    fixed: list[Fixed] = []
    if not drawn:
        return found, fixed
    plots = {one.name: one for one in figures.histograms(reader, manifest)}
    judged = [role for role, _ in manifest.step.inputs if role_part(manifest, role)]
    for role in judged:
        several = len(judged) > 1
        plot = plots.get(f"score of {role}" if several else "score")
        kind = "none" if plot is None else "one" if len(drawn) == 1 else _kind(reader, manifest, role, drawn)
        if plot is None or kind in ("none", "mixed"):
            why = MIXED if kind == "mixed" else "its step stored no scores"
            fixed += [Fixed(ref=str(manifest.ref), rule=manifest.rules[n - 1].name, why=why) for n, _, _ in drawn]
            continue
        for rule, threshold, direction in drawn:
            name = manifest.rules[rule - 1].name
            low, high, scored = plot.edges[0], plot.edges[-1], sum(plot.kept) + sum(plot.dropped)
            if kind == "looser":
                _, numbers, score = verdict_arrays(reader, manifest, role)
                mine = score[(numbers == rule) & np.isfinite(score)]
                if not len(mine):
                    fixed.append(Fixed(ref=str(manifest.ref), rule=name, why="it dropped no row with a score"))
                    continue
                low, high = min(float(mine.min()), threshold), max(float(mine.max()), threshold)
                scored = len(mine)
            found.append(
                Threshold(
                    key=".".join(
                        [method_tag(manifest), *([role] if several else []), *([name] if len(drawn) > 1 else [])]
                    ),
                    ref=str(manifest.ref),
                    stage=manifest.ref.stage,
                    method=method_tag(manifest),
                    rule=name,
                    says=manifest.rules[rule - 1].says,
                    role=role,
                    threshold=threshold,
                    direction=direction,
                    scored=scored,
                    low=low,
                    high=high,
                    histogram=plot,
                    looser_only=kind == "looser",
                )
            )
    return found, fixed


def _kind(reader: Reader, manifest: Manifest, role: str, drawn: Sequence[tuple[int, float, str]]) -> str:
    """``looser`` where no kept row has a score, ``window`` where two bounds hold every kept score, else ``mixed``."""
    fate, _, score = verdict_arrays(reader, manifest, role)
    kept = score[(fate == KEEP) & np.isfinite(score)]
    if not len(kept):
        return "looser"
    lower = [threshold for _, threshold, direction in drawn if direction == "keep-above"]
    upper = [threshold for _, threshold, direction in drawn if direction == "keep-below"]
    if len(lower) != 1 or len(upper) != 1 or lower[0] > upper[0]:
        return "mixed"
    inside = np.float32(lower[0]) <= kept.min() and kept.max() <= np.float32(upper[0])
    return "window" if inside else "mixed"


def decided(
    reader: Reader, manifest: Manifest, group: Sequence[Threshold], moves: Mapping[str, float]
) -> tuple[Array, Array, Array]:
    """Which rows of the input stay before and after, and how far each score lies from the nearest moved threshold.

    ``group`` holds all thresholds of one judged input, ``moves`` where some of them (by key) go. Only rows whose fate the
    thresholds decided move: kept rows with a score, and rows that these very rules rejected. A score equal to a threshold
    is kept if the step kept such a row, or if it met none. A row that other rules reject too stays away. Raises
    ``UsageError`` where a threshold would have to be tightened without the scores of kept rows.
    """
    fate, rule, score = verdict_arrays(reader, manifest, group[0].role)
    before = fate == KEEP
    numbers = {one.key: [r.name for r in manifest.rules].index(one.rule) + 1 for one in group}
    distance = np.full(len(score), np.inf, dtype=np.float32)
    free = np.isfinite(score) & (before | ((fate == REJECT) & np.isin(rule, list(numbers.values()))))
    stays = np.ones(len(score), dtype=bool)
    after = before.copy()
    for one in group:
        to = moves.get(one.key, one.threshold)
        mine = (rule == numbers[one.key]) & (fate == REJECT) & np.isfinite(score)
        above = one.direction == "keep-above"
        if one.looser_only and (to > one.threshold if above else to < one.threshold):
            raise UsageError(
                f"{one.key} cannot be tightened to {number(to)}: its step stored no scores of kept rows; "
                f"give a value {'below' if above else 'above'} {number(one.threshold)}"
            )
        equal = (mine if one.looser_only else free) & (score == np.float32(one.threshold))
        inclusive = bool(before[equal].any()) or not equal.any()
        fine = _side(score, np.float32(to), above, inclusive)
        if one.looser_only:
            if to != one.threshold:
                after |= mine & fine & ~_also(reader, manifest, one.role)
        else:
            stays &= fine
        if one.key in moves:
            gap = np.abs(score - np.float32(to))
            distance = np.fmin(distance, np.where(mine | before, gap, np.inf) if one.looser_only else gap)
    if not group[0].looser_only and any(moves.get(one.key, one.threshold) != one.threshold for one in group):
        after = np.where(free, stays, before)
    return before, after, distance


def _side(score: Array, cut: np.float32, above: bool, inclusive: bool) -> Array:
    with np.errstate(invalid="ignore"):
        if above:
            return score >= cut if inclusive else score > cut
        return score <= cut if inclusive else score < cut


def _also(reader: Reader, manifest: Manifest, role: str) -> Array:
    """Rows whose evidence names other rules (``also``) that they break too."""
    others = pl.col("evidence").str.json_path_match("$.also[0]").is_not_null().fill_null(False)
    return reader.scan(manifest.ref, f"verdicts/{role}").select(others.alias("also")).collect()["also"].to_numpy()
