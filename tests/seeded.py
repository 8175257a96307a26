"""A small store with every kind of step, made through the real Store: for tests of whatever reads a store.

``seeded(folder)`` curates the same 40 + 10 examples twice, with a lenient and a strict confidence threshold, and tags the
results ``support-bot@v1`` and ``@v2``. ``hostile`` is appended to every text a dataset, model or person can choose.

Worked by hand (v1): 40 rows ingested from dolly (3 lines refused) and 10 generated (3 candidates refused) are 50; dedup
drops 2; the length filter drops 5; the corrector edits 2; clear at 0.30 drops 5; decontaminate drops 2, flags 1: 36 left;
select keeps 24; the mixture repeats 3 of them: 27 rows. In v2 clear is at 0.42 and drops 13.
"""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.lineage import DatasetRef, Rule
from storage.store import Store
from tests.seeding import Builder, confidence, ids_of, quality

__all__ = ["TAG", "Seeded", "ids_of", "seeded"]

TAG = "support-bot"


@dataclass
class Seeded:
    """The store and what is in it, by the names used above; ids are hex."""

    store: Store
    v1: DatasetRef
    v2: DatasetRef
    steps: dict[str, DatasetRef] = field(default_factory=dict)  # of the first curation: "clear", "mix", …
    strict: dict[str, DatasetRef] = field(default_factory=dict)  # of the second
    dolly: list[str] = field(default_factory=list)
    seeds: list[str] = field(default_factory=list)
    synthetic: list[str] = field(default_factory=list)


def seeded(folder: Path, *, hostile: str = "", name: str = TAG) -> Seeded:
    """The store described at the top, in ``folder``: made once in a process, and copied for each test that may write to it."""
    made = _made(hostile, name)
    shutil.copytree(made.store.root, folder, dirs_exist_ok=True)
    return replace(made, store=Store.open(folder))


@functools.cache
def _made(hostile: str, name: str) -> Seeded:
    folder = Path(tempfile.mkdtemp(prefix="provender-seeded-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    store = Store.open(folder)
    build = Builder(store, hostile)
    rows = [
        (f"Question {i} about topic {i % 7}?", f"Answer {i} explains the topic in nine plain words") for i in range(40)
    ]
    rows[5] = rows[17] = rows[4]
    for i in (8, 12, 20, 28, 33):
        rows[i] = (f"Question {i}?", "Yes")
    dolly = build.ingest("dolly", rows, refused=3)
    seeds = build.ingest("seeds", [(f"Seed task {i}", f"Seed answer {i}") for i in range(6)])
    synthetic = build.generate(seeds, 10, "Come up with a series of tasks, each on a line of its own, numbered: ")
    pool = build.gather({"dolly": dolly, "synthetic": synthetic})
    common = {"dolly": dolly, "seeds": seeds, "synthetic": synthetic, "gather": pool}
    runs = [_curate(build, common, threshold, name) for threshold in (0.30, 0.42)]
    return Seeded(
        store=store,
        v1=runs[0]["publish"],
        v2=runs[1]["publish"],
        steps=runs[0],
        strict=runs[1],
        dolly=ids_of(store, dolly),
        seeds=ids_of(store, seeds),
        synthetic=ids_of(store, synthetic),
    )


def _curate(build: Builder, common: dict[str, DatasetRef], threshold: float, name: str) -> dict[str, DatasetRef]:
    steps = dict(common)
    store = build.store
    pool_ids = ids_of(store, steps["gather"])
    steps["dedup"] = build.judge(
        "dedup",
        {"method": "exact"},
        steps["gather"],
        {5: 1, 17: 1},
        rule=Rule(name=build.text("repeats-another"), says=build.text("the same text stands earlier")),
        evidence={at: {"repeats": pool_ids[4], "similarity": 1.0} for at in (5, 17)},
    )
    texts = store.pool(steps["dedup"])["messages"].to_list()
    words = [float(len(turns_[-1]["content"].removesuffix(build.hostile).split())) for turns_ in texts]
    steps["length"] = build.judge(
        "filter",
        {"method": "heuristics", "min_words": 3},
        steps["dedup"],
        {at: 1 for at, count in enumerate(words) if count < 3},
        rule=Rule(
            name=build.text("answer-too-short"),
            says=build.text("the answer has too few words"),
            threshold=3.0,
            direction="keep-above",
        ),
        scores=list(words),
    )
    steps["correct"] = build.judge(
        "filter",
        {"method": "corrector"},
        steps["length"],
        {2: 2, 9: 2},
        rule=Rule(name=build.text("corrected"), says=build.text("a better answer was written")),
        evidence={at: {"verdict": build.text("candidate better")} for at in (2, 9)},
    )
    rows = store.describe(steps["correct"]).counts.rows_out
    sure: list[float | None] = [confidence(at) for at in range(rows)]
    steps["clear"] = build.judge(
        "filter",
        {"method": "clear", "threshold": threshold},
        steps["correct"],
        {at: 1 for at, c in enumerate(sure) if c is not None and c <= threshold},
        rule=Rule(
            name=build.text("low-confidence"),
            says=build.text("confidence"),
            threshold=threshold,
            direction="keep-above",
        ),
        scores=sure,
    )
    hit = {
        "benchmark": build.text("gsm8k"),
        "item": "42",
        "turn": 0,
        "spans": [{"text": [0, 8], "item": [3, 11]}],
        "quote": build.text("how many apples"),
        "coverage": 0.8,
    }
    steps["decontaminate"] = build.judge(
        "decontaminate",
        {"method": "ngram", "n": 13},
        steps["clear"],
        {3: 1, 11: 1},
        rule=Rule(
            name=build.text("benchmark-match"),
            says=build.text("shares text with a test item"),
            threshold=0.5,
            direction="keep-below",
        ),
        scores=[
            0.8 if at in (3, 11) else 0.45 if at == 6 else 0.0
            for at in range(store.describe(steps["clear"]).counts.rows_out)
        ],
        evidence={3: hit, 11: {**hit, "item": "7"}, 6: {**hit, "coverage": 0.45}},
        flagged=(6,),
        content={build.text("benchmark/gsm8k"): "d1", build.text("benchmark/mmlu"): "d2"},
    )
    rows = store.describe(steps["decontaminate"]).counts.rows_out
    steps["rank"] = build.rank(steps["decontaminate"])
    best = sorted(range(rows), key=lambda at: (-quality(at), at))[:24]
    cut = quality(best[-1])
    steps["select"] = build.judge(
        "select",
        {"method": "keep-top", "keep_examples": 24},
        steps["decontaminate"],
        {at: 1 for at in range(rows) if at not in best},
        rule=Rule(
            name=build.text("below-budget"),
            says=build.text("outside the budget"),
            threshold=cut,
            direction="keep-above",
        ),
        scores=[quality(at) for at in range(rows)],
        side={"ranking": steps["rank"]},
    )
    steps["mix"] = build.mix(steps["select"], repeats=3)
    steps["publish"] = build.publish(steps["mix"], name)
    steps["finetune"], steps["evaluate"] = build.train(steps["publish"], steps["seeds"])
    steps["losses"] = build.losses(steps["publish"], steps["finetune"])
    return steps
