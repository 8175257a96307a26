"""A large store for the browser's benchmark, written through our own drafts and commits in bounded memory.

Three sources and a generator of examples come together, are judged by nine steps (one edits), ranked, selected, mixed in
a shuffled order and published; a second version has another threshold from the middle on, so that two can be compared.
Texts are put together from the sentences of the shipped rows and a few in other scripts; each holds a number of its own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._browse_endings import BATCH, SOURCES, Endings
from benchmarks._browse_texts import PROMPT, Texts, random_ids
from schemas.lineage import DatasetRef, Manifest, Rule, Step
from storage.layout import EDIT, KEEP, QUARANTINE, REJECT
from storage.packs.reviews import ITEMS_PART, PAIRS_PART
from storage.runs import RunLog
from storage.store import Store
from tasks.figures import Figures


@dataclass(frozen=True)
class Built:
    """What the measurement asks for: the two published versions by tag."""

    first: str
    second: str
    rows: int


def build(folder: Path, rows: int) -> Built:
    """The store with ``rows`` examples from its sources."""
    return _Builder(Store.open(folder), rows).build()


class _Builder(Endings):
    def __init__(self, store: Store, rows: int) -> None:
        self.store = store
        self.rows = rows
        self.rng = np.random.default_rng(1)
        self.run_id = "20261121-030000-b0b0b0"
        self.texts = Texts(self.rng)

    def build(self) -> Built:
        log = RunLog(self.store.root, "bench", "curate", self.run_id)
        pools = {name: self.ingest(name, int(self.rows * share), spdx) for name, share, spdx in SOURCES}
        seeds = self.ingest("seeds", 1_000, "Apache-2.0")
        pools["written"] = self.generate(seeds, self.rows - sum(int(self.rows * share) for _, share, _ in SOURCES))
        pool = self.gather(pools)
        pool = self.judge(pool, "dedup", {"method": "minhash"}, _rules(("near-copy", 0.7, "keep-below")), share=0.05)
        pool = self.judge(
            pool,
            "filter",
            {"method": "heuristics"},
            _rules(("too-short", None, "none"), ("symbols", None, "none"), ("repeats-itself", None, "none")),
            share=0.04,
            scored=False,
        )
        for name, share in (("language", 0.02), ("toxicity", 0.01), ("perplexity", 0.05)):
            pool = self.judge(
                pool, "filter", {"method": name}, _rules((f"low-{name}", share, "keep-above")), share=share
            )
        versions = [self.after(pool, share) for share in (0.10, 0.15)]
        for step in self.store.versions():
            log.event(
                {
                    "kind": "done",
                    "stage": step.ref.stage,
                    "what": _what(step),
                    "ref": str(step.ref),
                    "seconds": 1.0,
                    "counts": {},
                }
            )
        log.end("completed", dataset="bench")
        return Built(*versions, rows=self.rows)

    def after(self, pool: DatasetRef, share: float) -> str:
        """The half of the way that the second version goes again with another threshold."""
        pool = self.judge(
            pool,
            "filter",
            {"method": "clear", "threshold": share},
            _rules(("low-confidence", share, "keep-above")),
            share=share,
        )
        pool = self.edit(pool)
        pool = self.decontaminate(pool)
        ranking = self.rank(pool)
        rule = _rules(("below-budget", 0.5, "keep-above"))
        pool = self.judge(pool, "select", {"method": "top", "keep": 0.5}, rule, share=0.5, ranking=ranking)
        tagged = self.publish(self.mix(pool))
        self.train(self.store.resolve(tagged))
        return tagged

    def draft(self, stage: str, method: dict[str, Any], **inputs: DatasetRef) -> Any:
        models = {"llm": {"backend": "openai", "model": "teacher-8b", "revision": "r1"}} if stage == "generate" else {}
        content = (
            {"sha256": f"{self.rows:064x}"}
            if stage == "ingest"
            else {"benchmark/gsm8k": "d1", "benchmark/mmlu": "d2"}
            if stage == "decontaminate"
            else {}
        )
        draft = self.store.draft(
            Step(
                stage=stage,
                method={"stage": stage, "version": 1, **method},
                inputs=tuple(inputs.items()),
                backends=models,
                content=content,
            )
        )
        draft.run = {"run_id": self.run_id, "started_at": "2026-11-21T03:00:00.000+00:00", "seconds": 1.0, "cores": 2}
        return draft

    def ingest(self, source: str, rows: int, spdx: str | None) -> DatasetRef:
        draft, figures = self.draft("ingest", {"source": source}), Figures()
        for start in range(0, rows, BATCH):
            batch = self.texts.examples(source, start, min(BATCH, rows - start), spdx, 0)
            figures.add(batch)
            draft.put("examples", batch)
        broken = pl.DataFrame(
            {
                "line": range(20),
                "text": ['{"instruction": "cut o'] * 20,
                "reason": ["not-json"] * 20,
                "evidence": ['{"found":"end of line"}'] * 20,
            }
        )
        draft.put("refused", broken)
        draft.homes, draft.summary = [draft.step.output], figures.summary()
        return self.store.commit(draft).ref

    def generate(self, seeds: DatasetRef, count: int) -> DatasetRef:
        """Two examples a call, two seeds each; a tenth as many were refused."""
        draft = self.draft(
            "generate", {"method": "self-instruct", "prompts": {"instruct": {"body": PROMPT}}}, seeds=seeds
        )
        figures = Figures()
        draft.homes = [draft.step.output, seeds]
        keys: list[bytes] = []
        for start in range(0, count, BATCH):
            n = min(BATCH, count - start)
            batch = self.texts.examples("written", start, n, None, 1)
            figures.add(batch)
            draft.put("examples", batch)
            mine = random_ids(self.rng, -(-n // 2)).to_list()
            picked = self.rng.integers(0, 1_000, (n, 2))
            parents = [[{"home": 1, "row": int(a)}, {"home": 1, "row": int(b)}] for a, b in picked]
            called = [[mine[i // 2]] for i in range(n)]
            links = {
                "row": range(start, start + n),
                "parents": parents,
                "calls": called,
                "index": [i % 2 for i in range(n)],
                "evidence": ['{"nearest":0.31}'] * n,
            }
            draft.put("links", pl.DataFrame(links))
            refused = n // 10
            draft.put(
                "refused",
                pl.DataFrame(
                    {
                        "text": self.texts.some(refused, 1, 3),
                        "reason": ["too-similar"] * refused,
                        "evidence": ['{"rouge":0.82}'] * refused,
                        "parents": parents[:refused],
                        "calls": called[:refused],
                    }
                ),
            )
            keys += mine
        for start in range(0, len(keys), BATCH):
            draft.put("calls", self.texts.calls(keys[start : start + BATCH]))
        draft.summary = figures.summary()
        return self.store.commit(draft).ref

    def gather(self, pools: dict[str, DatasetRef]) -> DatasetRef:
        draft = self.draft("gather", {}, **pools)
        draft.homes = list(pools.values())
        members = []
        for number, (role, ref) in enumerate(pools.items()):
            rows = self.store.describe(ref).counts.rows_out
            draft.put(
                f"verdicts/{role}",
                pl.select(fate=pl.repeat(KEEP, rows, dtype=pl.UInt8), rule=pl.repeat(0, rows, dtype=pl.UInt16)),
            )
            members.append(
                pl.select(home=pl.repeat(number, rows, dtype=pl.UInt16), row=pl.int_range(rows, dtype=pl.UInt32))
            )
        draft.put("members", pl.concat(members))
        draft.summary = {
            "composition": [row for ref in pools.values() for row in self.store.describe(ref).summary["composition"]]
        }
        return self.store.commit(draft).ref

    def judge(
        self, pool: DatasetRef, stage: str, method: dict[str, Any], rules: list[Rule], *, share: float, scored: bool = True,
        **inputs: DatasetRef,
    ) -> DatasetRef:  # fmt: skip
        draft = self.draft(stage, method, pool=pool, **inputs)
        rows = self.store.describe(pool).counts.rows_out
        scores = self.rng.random(rows, dtype=np.float32)
        below = rules[0].direction == "keep-below"
        drops = scores > np.float32(rules[0].threshold) if below and rules[0].threshold else scores < np.float32(share)
        if below:  # near-copies: the score of most is far below the threshold
            scores = np.where(self.rng.random(rows) < share, 0.7 + 0.3 * scores, 0.69 * scores).astype(np.float32)
            drops = scores > np.float32(0.7)
        rule = np.where(drops, self.rng.integers(1, len(rules) + 1, rows), 0).astype(np.uint16)
        frame = pl.DataFrame({"fate": drops.astype(np.uint8) * REJECT, "rule": rule})
        if scored:
            frame = frame.with_columns(score=pl.Series(scores))
        else:
            frame = frame.with_columns(evidence=pl.when(pl.Series(drops)).then(pl.lit('{"words":7}')))
        return self.settled(draft, pool, rules, frame)

    def settled(self, draft: Any, pool: DatasetRef, rules: list[Rule], frame: pl.DataFrame) -> DatasetRef:
        """Verdicts and the members that they leave; edited ones are the step's own."""
        positions = self.store.positions(pool)
        draft.homes, draft.rules = list(self.store.describe(pool).homes), rules
        if "successor" in frame.columns:
            draft.homes.append(draft.step.output)
            edited = pl.col("fate") == EDIT
            positions = pl.concat([positions, frame], how="horizontal").select(
                home=pl.when(edited).then(pl.lit(len(draft.homes) - 1, pl.UInt16)).otherwise("home"),
                row=pl.when(edited).then("successor").otherwise("row"),
            )
        stays = (frame["fate"] == KEEP) | (frame["fate"] == EDIT)
        draft.put("verdicts/pool", frame)
        draft.put("members", positions.filter(stays))
        return self.store.commit(draft).ref

    def edit(self, pool: DatasetRef) -> DatasetRef:
        """Half a percent of the answers get an ending."""
        draft = self.draft("filter", {"method": "tidy"}, pool=pool)
        rows = self.store.describe(pool).counts.rows_out
        at = np.sort(self.rng.choice(rows, rows // 200, replace=False))
        positions = self.store.positions(pool)[at]
        numbers = self.store.describe(pool).homes
        for start in range(0, len(at), BATCH):
            old = self.store.take(pool, positions.slice(start, BATCH))
            tidied = pl.col("messages").list.eval(
                pl.struct(
                    pl.element().struct.field("role"),
                    (pl.element().struct.field("content") + " Done.").alias("content"),
                    pl.element().struct.field("extra"),
                )
            )
            draft.put(
                "examples",
                old.with_columns(
                    tidied,
                    id=pl.Series([i[1:] + i[:1] for i in old["id"]], dtype=pl.Binary),
                    content_hash=random_ids(self.rng, old.height),
                ),
            )
            where = positions.slice(start, BATCH).to_dicts()
            draft.put(
                "links",
                pl.DataFrame(
                    {
                        "row": range(start, start + old.height),
                        "parents": [[place] for place in where],
                        "index": [0] * old.height,
                    }
                ),
            )
        assert len(numbers) == len(self.store.describe(pool).homes)
        fate, successor = np.zeros(rows, dtype=np.uint8), np.zeros(rows, dtype=np.uint32)
        fate[at], successor[at] = EDIT, np.arange(len(at))
        frame = pl.DataFrame(
            {"fate": fate, "rule": (fate == EDIT).astype(np.uint16), "successor": successor}
        ).with_columns(pl.when(pl.col("fate") == EDIT).then("successor").alias("successor"))
        return self.settled(draft, pool, _rules(("untidy-end", None, "none")), frame)

    def decontaminate(self, pool: DatasetRef) -> DatasetRef:
        """One row in two thousand meets an item: most are dropped, some held back, some flagged and kept."""
        draft = self.draft("decontaminate", {"method": "ngram-coverage"}, pool=pool)
        rows = self.store.describe(pool).counts.rows_out
        hit = np.sort(self.rng.choice(rows, rows // 2000, replace=False))
        score, fate, rule = (
            np.zeros(rows, dtype=np.float32),
            np.zeros(rows, dtype=np.uint8),
            np.zeros(rows, dtype=np.uint16),
        )
        fate[hit] = self.rng.choice([REJECT, REJECT, REJECT, QUARANTINE, KEEP], len(hit))
        score[hit], rule[hit] = 0.3 + 0.7 * self.rng.random(len(hit)), 1
        where = {"in": "messages", "turn": 0, "field": "prompt", "spans": [{"text": [0, 40], "item": [0, 40]}]}
        proof = [
            json.dumps({"benchmark": ("gsm8k", "mmlu")[i % 2], "item": f"{i % 1000}", **where})
            for i in range(len(hit))
        ]  # fmt: skip
        told = pl.DataFrame({"at": hit.astype(np.uint32), "evidence": proof})
        frame = (
            pl.DataFrame({"fate": fate, "rule": rule, "score": score})
            .with_row_index("at")
            .join(told, on="at", how="left", maintain_order="left")
            .drop("at")
        )
        items = [
            {"benchmark": name, "item": f"{i}", "prompt": self.texts.bank[i], "answer": "42"}
            for i in range(1000)
            for name in ("gsm8k", "mmlu")
        ]
        draft.put(ITEMS_PART, pl.DataFrame(items))
        draft.put(
            PAIRS_PART,
            pl.DataFrame(
                {
                    "position": hit.astype(np.uint32),
                    "benchmark": [("gsm8k", "mmlu")[i % 2] for i in range(len(hit))],
                    "item": [f"{i % 1000}" for i in range(len(hit))],
                }
            ),
        )
        return self.settled(draft, pool, _rules(("benchmark-match", 0.3, "keep-below")), frame)


def graph_store(folder: Path, versions: int) -> str:
    """A store of so many small versions: sweeps of filters over filters, ten wide; the tag of the last."""
    store = Store.open(folder)
    builder = _Builder(store, 100)
    layer = [builder.ingest("web", 100, "CC0-1.0")]
    made, level = 1, 0
    while made < versions - 1:
        following = []
        for i in range(min(10, versions - 1 - made)):
            pool = layer[i % len(layer)]
            following.append(
                builder.judge(
                    pool,
                    "filter",
                    {"method": f"sweep-{level % 7}", "threshold": i / 100},
                    _rules(("low", 0.0, "keep-above")),
                    share=0.0,
                )
            )
        made, level, layer = made + len(following), level + 1, following
    store.tag("sweep", layer[0])
    return "sweep@v1"


def _rules(*given: tuple[str, float | None, str]) -> list[Rule]:
    return [Rule(name=name, says=name.replace("-", " "), threshold=at, direction=way) for name, at, way in given]  # type: ignore[arg-type]


def _what(manifest: Manifest) -> str:
    return str(manifest.step.method.get("method", manifest.step.method.get("source", "")))


def some_ids(store: Store, ref: DatasetRef, part: str, count: int, rng_seed: int) -> Iterator[str]:
    """Ids of evenly random rows of a part, without reading it whole."""
    rng = np.random.default_rng(rng_seed)
    parts = store.describe(ref).parts[part]
    for _ in range(count):
        number = int(rng.integers(len(parts)))
        at = int(rng.integers(parts[number].rows))
        path = store.paths(ref, part)[number]
        yield pl.scan_parquet(path).select("id").slice(at, 1).collect()["id"][0].hex()
