"""Writes steps of every kind through the real Store, for tests: ingest, generate, gather, judges, rank, mix, publish, train."""

import json
from typing import Any

import polars as pl

from schemas.examples import EXAMPLES, turns
from schemas.identity import canonical_json, created_id, digest16, ingested_id
from schemas.lineage import DatasetRef, Rule, Step
from storage.draft import Draft
from storage.store import Store


class Builder:
    """Writes steps; every free text passes ``text``, where a hostile ending may be put on."""

    def __init__(self, store: Store, hostile: str) -> None:
        self.store = store
        self.hostile = hostile

    def text(self, words: str) -> str:
        return words + self.hostile

    def draft(self, stage: str, method: dict[str, Any], inputs: dict[str, DatasetRef], **more: Any) -> Draft:
        identity = {"stage": stage, "version": 1, **method}
        draft = self.store.draft(Step(stage=stage, method=identity, inputs=tuple(inputs.items()), **more))
        draft.run = {
            "run_id": "run-1",
            "started_at": "2026-11-20T10:00:00.000+00:00",
            "seconds": 1.5,
            "note": self.text("note"),
        }
        return draft

    def ingest(self, source: str, rows: list[tuple[str, str]], refused: int = 0) -> DatasetRef:
        draft = self.draft(
            "ingest",
            {"source": source, "comment": self.text("as given")},
            {},
            content={"sha256": digest16(source.encode()).hex()},
        )
        examples = [self._example(question, answer, source, "CC-BY-SA-3.0") for question, answer in rows]
        seen: dict[bytes, int] = {}
        for example in examples:
            occurrence = seen.get(example["content_hash"], 0)
            seen[example["content_hash"]] = occurrence + 1
            example["id"] = ingested_id(source, example["content_hash"], occurrence)
        draft.put("examples", pl.DataFrame(examples, schema=dict(EXAMPLES)))
        if refused:
            draft.put(
                "refused",
                pl.DataFrame(
                    {
                        "line": [len(rows) + i for i in range(refused)],
                        "text": [self.text('{"instruction": "cut of')] * refused,
                        "reason": [self.text("not-json")] * refused,
                        "evidence": [json.dumps({"found": self.text("end of line")})] * refused,
                    }
                ),
            )
        draft.homes = [draft.step.output]
        return self.store.commit(draft).ref

    def _example(
        self, question: str, answer: str, source: str, license_name: str | None, depth: int = 0
    ) -> dict[str, Any]:
        messages = turns(("user", self.text(question)), ("assistant", self.text(answer)))
        return {
            "id": b"",
            "content_hash": digest16(canonical_json(messages).encode()),
            "source": self.text(source),
            "messages": messages,
            "tools": None,
            "worse": None,
            "license": self.text(license_name) if license_name else None,
            "synthetic_depth": depth,
            "extra": json.dumps({"category": self.text("open_qa")}),
        }

    def generate(self, seeds: DatasetRef, count: int, prompt: str) -> DatasetRef:
        """``count`` examples, two from each call, parents are two neighbouring seeds; three candidates are refused."""
        draft = self.draft(
            "generate",
            {"method": "self-instruct", "prompt": self.text(prompt), "per_call": 2},
            {"seeds": seeds},
            backends={"llm": {"backend": "scripted", "model": "sprout", "revision": "1"}},
            rng_seed=7,
        )
        n_seeds = self.store.describe(seeds).counts.rows_out
        parents = [[i % n_seeds, (i + 1) % n_seeds] for i in range(count)]
        keys = [digest16(f"call {i // 2}".encode()) for i in range(count)]
        ids = self.store.pool(seeds)["id"].to_list()
        identity = dict(draft.step.method)
        examples, index = [], []
        for i, pair in enumerate(parents):
            example = self._example(
                f"Invent question {i}", f"An answer of nine words to the invented question {i}", "synthetic", None, 1
            )
            index.append(sum(1 for earlier in parents[:i] if earlier == pair))
            example["id"] = created_id(identity, [ids[p] for p in pair], index[-1])
            examples.append(example)
        draft.homes = [draft.step.output, seeds]
        draft.put("examples", pl.DataFrame(examples, schema=dict(EXAMPLES)))
        places = [[{"home": 1, "row": p} for p in pair] for pair in parents]
        draft.put(
            "links",
            pl.DataFrame(
                {
                    "row": range(count),
                    "parents": places,
                    "calls": [[key] for key in keys],
                    "index": index,
                    "evidence": [json.dumps({"nearest": 0.31, "kind": self.text("open")})] * count,
                }
            ),
        )
        draft.put(
            "refused",
            pl.DataFrame(
                {
                    "line": [None] * 3,
                    "text": [self.text(f"Candidate {i} that repeats a seed") for i in range(3)],
                    "reason": [self.text("too-similar")] * 2 + [self.text("unparsed")],
                    "evidence": [json.dumps({"rouge": 0.82, "nearest": self.text("a seed")})] * 2 + [None],
                    "parents": places[:3],
                    "calls": [[keys[0]], [keys[0]], [keys[2]]],
                },
                schema_overrides={"line": pl.Int64},
            ),
        )
        draft.put("calls", self._calls(sorted(set(keys), key=keys.index)))
        return self.store.commit(draft).ref

    def _calls(self, keys: list[bytes]) -> pl.DataFrame:
        """One call per key; the last has no known price, the second was cached."""
        request = {
            "model": self.text("sprout"),
            "messages": [["user", self.text("Come up with a series of tasks:\n1. Sort the list.\n2.")]],
            "sampling": {"temperature": 0.7, "max_tokens": 256, "seed": 7},
        }
        return pl.DataFrame(
            {
                "key": keys,
                "model": [self.text("sprout")] * len(keys),
                "request": [json.dumps(request)] * len(keys),
                "reply": [self.text(f"Invented text {i}") for i in range(len(keys))],
                "finish_reason": ["stop"] * len(keys),
                "prompt_tokens": [100] * len(keys),
                "completion_tokens": [50] * len(keys),
                "cost_usd": [0.002] * (len(keys) - 1) + [None],
                "attempts": [1] * len(keys),
                "cached": [i == 1 for i in range(len(keys))],
                "failure": [None] * len(keys),
            },
            schema_overrides={"failure": pl.String, "cost_usd": pl.Float64},
        )

    def gather(self, pools: dict[str, DatasetRef]) -> DatasetRef:
        draft = self.draft("gather", {}, pools)
        draft.homes = list(pools.values())
        members = []
        for number, (role, ref) in enumerate(pools.items()):
            rows = self.store.describe(ref).counts.rows_out
            draft.put(f"verdicts/{role}", verdicts([0] * rows))
            members.append(pl.DataFrame({"home": [number] * rows, "row": range(rows)}))
        draft.put("members", pl.concat(members))
        return self.store.commit(draft).ref

    def judge(
        self,
        stage: str,
        method: dict[str, Any],
        pool: DatasetRef,
        fates: dict[int, int],
        *,
        rule: Rule,
        scores: list[float | None] | None = None,
        evidence: dict[int, dict[str, Any]] | None = None,
        flagged: tuple[int, ...] = (),
        **more: Any,
    ) -> DatasetRef:
        """``fates`` names the positions that are not kept; an edited answer gets " (corrected)" put on."""
        draft = self.draft(stage, method, {"pool": pool, **more.pop("side", {})}, **more)
        rows = self.store.describe(pool).counts.rows_out
        positions = self.store.positions(pool)
        fate = [fates.get(at, 0) for at in range(rows)]
        said = {at: json.dumps(found) for at, found in (evidence or {}).items()}
        edited = [at for at in range(rows) if fate[at] == 2]
        homes = list(self.store.describe(pool).homes)
        home, row = positions["home"].to_list(), positions["row"].to_list()
        if edited:
            homes.append(draft.step.output)
            old = self.store.pool(pool)[edited]
            new = old.to_dicts()
            for example in new:
                example["messages"][-1]["content"] += self.text(" (corrected)")
                example["content_hash"] = digest16(canonical_json(example["messages"]).encode())
                example["id"] = created_id(dict(draft.step.method), [example["id"]], 0)
            draft.put("examples", pl.DataFrame(new, schema=dict(EXAMPLES)))
            parents = [[{"home": home[at], "row": row[at]}] for at in edited]
            links = {
                "row": range(len(edited)),
                "parents": parents,
                "calls": [[]] * len(edited),
                "index": [0] * len(edited),
            }
            draft.put("links", pl.DataFrame(links, schema_overrides={"calls": pl.List(pl.Binary)}))
        for number, at in enumerate(edited):
            home[at], row[at] = len(homes) - 1, number
        stays = [at for at in range(rows) if fate[at] in (0, 2)]
        draft.homes, draft.rules = homes, [rule]
        draft.put(
            "verdicts/pool",
            verdicts(
                fate,
                rule=[1 if f or at in flagged else 0 for at, f in enumerate(fate)],
                score=scores,
                evidence=[said.get(at) for at in range(rows)],
                successor=[edited.index(at) if at in edited else None for at in range(rows)],
            ),
        )
        draft.put("members", pl.DataFrame({"home": [home[at] for at in stays], "row": [row[at] for at in stays]}))
        return self.store.commit(draft).ref

    def rank(self, pool: DatasetRef) -> DatasetRef:
        draft = self.draft(
            "rank", {"method": "ifd", "note": self.text("instruction-following difficulty")}, {"pool": pool}
        )
        draft.keep_members(self.store.describe(pool))
        rows = self.store.describe(pool).counts.rows_out
        draft.put(
            "scores",
            pl.DataFrame({"score": [quality(at) for at in range(rows)], "loss": [2.0 + at / 10 for at in range(rows)]}),
        )
        return self.store.commit(draft).ref

    def mix(self, pool: DatasetRef, repeats: int) -> DatasetRef:
        """Reversed order, the first ``repeats`` examples twice."""
        draft = self.draft("mix", {"method": "temperature", "temperature": 2.0}, {"pool": pool})
        positions = self.store.positions(pool)
        draft.homes = list(self.store.describe(pool).homes)
        draft.put("verdicts/pool", verdicts([0] * positions.height))
        draft.put("members", pl.concat([positions.reverse(), positions.head(repeats)]))
        sources = pl.concat([self.store.pool(pool), self.store.pool(pool).head(repeats)])["source"].value_counts()
        take = dict(sources.iter_rows())
        draft.summary = {
            "weights": {name: count / (positions.height + repeats) for name, count in take.items()},
            "take": take,
            "available": dict(self.store.pool(pool)["source"].value_counts().iter_rows()),
        }
        return self.store.commit(draft).ref

    def publish(self, pool: DatasetRef, name: str) -> DatasetRef:
        draft = self.draft("publish", {"declared": {"gsm8k": "d1"}, "max_contaminated_fraction": 0.1}, {"pool": pool})
        draft.keep_members(self.store.describe(pool))
        rows = self.store.pool(pool).with_row_index("position")
        draft.put("train", rows.select("id", "messages", "tools", "worse", "source", "license", "position"))
        draft.put("index", rows.select("id", "position").sort("id", "position"))
        checks = [
            {"name": "contamination", "status": "passed", "says": self.text("checked against gsm8k")},
            {"name": "conservation", "status": "passed", "says": "12 steps"},
            {"name": "licences", "status": "passed", "says": self.text("CC-BY-SA-3.0")},
        ]
        draft.summary = {
            "gate": {"status": "passed", "checks": checks},
            "words": {"prompt_words": 120, "answer_words": 480},
        }
        ref = self.store.commit(draft).ref
        recipe = {
            "name": name,
            "sources": {"dolly": {"path": self.text("data/dolly.jsonl")}},
            "finetune": {"model": "sprout"},
        }
        self.store.tag(name, ref, run_id="run-1", note=self.text("weekly"), recipe=recipe)
        return ref

    def losses(self, dataset: DatasetRef, model: DatasetRef, drawn: int = 20) -> DatasetRef:
        """Losses of the last ``drawn`` distinct members: (1 + n / 10) before, less 0.5 after but for every fifth, more."""
        draft = self.draft("losses", {"method": "losses", "examples": drawn}, {"model": model, "pool": dataset})
        ids = self.store.pool(dataset)["id"].to_list()
        number = {one: n for n, one in enumerate(list(dict.fromkeys(ids))[-drawn:])}
        rows: list[dict[str, float | None]] = []
        for at, one in enumerate(ids):
            n = number.get(one)
            before = None if n is None else 1 + n / 10
            after = None if before is None else before + (0.25 if (n or 0) % 5 == 0 else -0.5)
            rows.append(
                {
                    "score": None, "before": before, "after": after,
                    "change": None if after is None or before is None else after - before,
                    "tokens": None if n is None else 7.0, "truncated": None if n is None else 0.0,
                    "first": None if n is None else float(one not in ids[:at]),
                }
            )  # fmt: skip
        draft.keep_members(self.store.describe(dataset))
        draft.put("scores", pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.Float64)))
        draft.summary = {
            "examples": len(set(ids)), "asked": drawn, "scored": drawn, "unscored": {}, "truncated": 0,
            "base_model": self.text("sprout"), "before": 1.95, "after": 1.6,
        }  # fmt: skip
        return self.store.commit(draft).ref

    def train(self, dataset: DatasetRef, target: DatasetRef) -> tuple[DatasetRef, DatasetRef]:
        tuned = self.draft(
            "finetune", {"model": self.text("sprout"), "method": "sft", "epochs": 2.0}, {"dataset": dataset}
        )
        tuned.summary = {
            "metrics": {self.text("train_loss"): 1.25, "steps": 40},
            "history": [{"step": 10 * i, "loss": 3.0 - 0.4 * i} for i in range(1, 5)],
        }
        model = self.store.commit(tuned).ref
        scored = self.draft("evaluate", {"metrics": ["loss"]}, {"model": model, "target": target})
        measured = {
            "metric": self.text("heldout_loss"), "slice": "all", "examples": 6, "value": 1.5, "low": 1.4, "high": 1.6,
            "before": 2.0, "before_low": 1.9, "before_high": 2.2, "change": -0.5, "change_low": -0.6, "change_high": -0.4,
        }  # fmt: skip
        scored.summary = {"measured": [measured]}
        return model, self.store.commit(scored).ref


def verdicts(
    fate: list[int],
    rule: list[int] | None = None,
    score: list[float | None] | None = None,
    evidence: list[str | None] | None = None,
    successor: list[int | None] | None = None,
) -> pl.DataFrame:
    rows = len(fate)
    return pl.DataFrame(
        {
            "fate": fate,
            "rule": rule or [0] * rows,
            "score": score or [None] * rows,
            "evidence": evidence or [None] * rows,
            "successor": successor or [None] * rows,
        },
        schema_overrides={"score": pl.Float32, "evidence": pl.String, "successor": pl.UInt32},
    )


def quality(at: int) -> float:
    """A score that is not in the order of the rows: 0.00 to 0.99."""
    return (at * 37 % 100) / 100


def confidence(at: int) -> float:
    return round(0.2 + (at * 29 % 80) / 100, 2)


def ids_of(store: Store, ref: DatasetRef) -> list[str]:
    """Ids of a version's members in order, hex."""
    return [value.hex() for value in store.pool(ref)["id"]]
