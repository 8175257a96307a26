"""Near-duplicates: against brute force, in any order, with hostile text, and what verdicts say."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.dedup.exact import Exact
from methods.dedup.minhash import MinHash
from methods.texts.words import words
from schemas.errors import InvariantViolation
from schemas.examples import VERDICTS, conform, turns
from schemas.method import Using
from tests.methods._pools import NOTHING, awkward_pool, example_id, pool_of, reasons, rng

TEXT = "Sort the list of numbers in ascending order and print each of them on its own line please"


def judge(pool: pl.DataFrame, **fields) -> pl.DataFrame:
    return conform(MinHash(**fields).judge(pool, using=NOTHING, rng=rng()), VERDICTS, "minhash")


def dropped(pool: pl.DataFrame, **fields) -> list[int]:
    return [i for i, reason in enumerate(reasons(judge(pool, **fields), pool)) if reason]


def evidence(pool: pl.DataFrame, number: int, **fields) -> dict:
    row = judge(pool, **fields).row(by_predicate=pl.col("id") == example_id(number), named=True)
    return json.loads(row["evidence"]) | {"score": row["score"]}


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(max(1, len(found) - n + 1))} if found else set()


def similarity(one: str, other: str, n: int) -> float:
    a, b = grams(one, n), grams(other, n)
    return len(a & b) / len(a | b) if a and b else 0.0


def near_copies(count: int, seed: int = 0) -> list[str]:
    """Texts of 12 words from a small vocabulary, most of them edits of earlier ones."""
    chance = np.random.default_rng(seed)
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and chance.random() < 0.7:
            said = list(texts[int(chance.integers(len(texts)))])
            for _ in range(int(chance.integers(0, 6))):
                said[int(chance.integers(12))] = f"w{chance.integers(60)}"
        else:
            said = [f"w{w}" for w in chance.integers(0, 60, 12)]
        texts.append(said)
    return [" ".join(said) for said in texts]


def components(texts: list[str], n: int, threshold: float) -> list[int]:
    label = list(range(len(texts)))
    pairs = [(i, j) for i, j in combinations(range(len(texts)), 2) if similarity(texts[i], texts[j], n) >= threshold]
    changed = True
    while changed:
        changed = False
        for i, j in pairs:
            low = min(label[i], label[j])
            changed |= (label[i], label[j]) != (low, low)
            label[i] = label[j] = low
    return label


#: Bands of one row: every pair that shares anything is a candidate, so that brute force must agree exactly.
ALL_PAIRS = {"on": "answer", "bands": 200, "rows": 1, "ngram": 2}


@pytest.mark.parametrize("threshold", [0.4, 0.7, 1.0])
def test_clusters_are_the_components_of_all_pairs(threshold: float):
    texts = near_copies(120)
    pool = pool_of(*((f"q{i}", text) for i, text in enumerate(texts)))
    label = components(texts, 2, threshold)
    said = judge(pool, **ALL_PAIRS, threshold=threshold)
    kept = [i for i, r in enumerate(reasons(said, pool)) if not r]
    assert sorted(label[i] for i in kept) == sorted(set(label))  # exactly one of each component
    for row in said.filter(fate="reject").iter_rows(named=True):
        proof = json.loads(row["evidence"])
        number = {example_id(i): i for i in range(120)}
        i, home = number[row["id"]], number[bytes.fromhex(proof["repeats"])]
        assert label[i] == label[home]
        assert home in kept
        assert home == min((j for j in range(120) if label[j] == label[i]), key=example_id)
        assert proof["similarity"] == round(similarity(texts[i], texts[home], 2), 6)
        assert row["score"] >= round(threshold, 6)
        if "via" in proof:
            link = number[bytes.fromhex(proof["via"])]
            assert proof["similarity"] < threshold <= similarity(texts[i], texts[link], 2)
            assert proof["via_similarity"] == round(similarity(texts[i], texts[link], 2), 6)


def test_greedy_is_the_loop_over_the_examples_best_first():
    texts = near_copies(120, seed=1)
    pool = pool_of(*((f"q{i}", text) for i, text in enumerate(texts)))
    kept: list[int] = []
    for i in sorted(range(120), key=example_id):
        if not any(similarity(texts[i], texts[j], 2) >= 0.5 for j in kept):
            kept.append(i)
    said = judge(pool, **ALL_PAIRS, threshold=0.5, grouping="greedy")
    assert [i for i, r in enumerate(reasons(said, pool)) if not r] == sorted(kept)
    number = {example_id(i): i for i in range(120)}
    for row in said.filter(fate="reject").iter_rows(named=True):
        i, home = number[row["id"]], number[bytes.fromhex(json.loads(row["evidence"])["repeats"])]
        assert home in kept
        earlier = [j for j in kept if example_id(j) < example_id(i)]
        assert similarity(texts[i], texts[home], 2) == max(similarity(texts[i], texts[j], 2) for j in earlier)
        assert row["score"] == round(similarity(texts[i], texts[home], 2), 6)


def test_with_the_bands_of_the_threshold_nearly_all_and_only_true_pairs_are_found():
    texts = near_copies(400, seed=2)
    pool = pool_of(*(("q", text) for text in texts))
    label = components(texts, 2, 0.7)
    out = {i for i, r in enumerate(reasons(judge(pool, on="answer", ngram=2, threshold=0.7), pool)) if r}
    true = {i for i in range(400) if i != min((j for j in range(400) if label[j] == label[i]), key=example_id)}
    assert out <= true
    assert len(out) >= 0.95 * len(true) > 50


def test_a_repeat_names_the_example_that_stays_and_how_alike_it_is():
    pool = pool_of(("q", TEXT), ("q", TEXT.upper() + "!"), ("q", TEXT + " now"), ("q", "Something else entirely, sir"))
    stays = min(range(3), key=example_id)
    assert dropped(pool, on="answer") == [i for i in range(3) if i != stays]
    shingles = len(words(TEXT)) - 2
    for i in {0, 1, 2} - {stays}:
        near = 1.0 if {i, stays} == {0, 1} else round(shingles / (shingles + 1), 6)
        assert evidence(pool, i, on="answer") == {
            "on": "answer", "repeats": example_id(stays).hex(), "similarity": near, "score": near
        }  # fmt: skip


def test_a_chain_is_one_cluster_and_tells_the_link_unless_grouping_is_greedy():
    said = [" ".join(f"w{i}" for i in range(start, start + 20)) for start in (0, 4, 8)]
    order = sorted(range(3), key=example_id)  # the first of these stays: make it an end of the chain
    texts = [""] * 3
    for place, text in zip(order, (said[0], said[2], said[1]), strict=True):
        texts[place] = text
    pool = pool_of(*(("q", text) for text in texts))
    fields = {"on": "answer", "ngram": 1, "threshold": 0.6, "bands": 100, "rows": 1}
    assert dropped(pool, **fields) == sorted(order[1:])
    told = evidence(pool, order[1], **fields)
    assert told == {
        "on": "answer", "repeats": example_id(order[0]).hex(), "similarity": round(12 / 28, 6),
        "via": example_id(order[2]).hex(), "via_similarity": round(16 / 24, 6), "score": round(16 / 24, 6),
    }  # fmt: skip
    assert dropped(pool, **fields, grouping="greedy") == [order[2]]


@pytest.mark.parametrize("grouping", ["connected", "greedy"])
@pytest.mark.parametrize("scope", ["anywhere", "within-source", "across-sources"])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_order_does_not_matter_and_a_second_pass_changes_nothing(grouping: str, scope: str, data):
    texts = near_copies(30, seed=data.draw(st.integers(0, 50)))
    pool = pool_of(*(("q", text) for text in texts), source=[f"s{i % 3}" for i in range(30)])
    fields = {"on": "answer", "ngram": 2, "threshold": 0.5, "grouping": grouping, "scope": scope}
    said = judge(pool, **fields)
    order = data.draw(st.permutations(range(30)))
    assert judge(pool[order], **fields).sort("id").equals(said.sort("id"))
    survivors = pool.join(said.filter(fate="keep").select("id"), on="id", how="semi")
    assert dropped(survivors, **fields) == []


@pytest.mark.parametrize("grouping", ["connected", "greedy"])
def test_a_crowd_in_one_band_is_settled_without_comparing_all_with_all(grouping: str, monkeypatch: pytest.MonkeyPatch):
    """Bands of one row over a shared word put all into one group; two kinds of texts in it, alike within a kind only."""
    kinds = [" ".join(f"{kind}{i}" for i in range(12)) for kind in "ab"]
    texts = [f"same {kinds[i % 2]} x{i}" for i in range(60)]
    pool = pool_of(*(("q", text) for text in texts))
    fields = {"on": "answer", "ngram": 1, "threshold": 0.7, "bands": 100, "rows": 1, "grouping": grouping}
    compared = []
    from methods.dedup import _row_sets

    real = _row_sets.jaccard
    monkeypatch.setattr(_row_sets, "jaccard", lambda *args: compared.append(len(args[3])) or real(*args))
    monkeypatch.setattr("methods.dedup._clusters.REACH", 2)
    assert 60 - len(dropped(pool, **fields)) == 2
    if grouping == "connected":
        assert sum(compared) < 60 * 59 / 2


def test_the_result_does_not_depend_on_how_the_work_is_cut(monkeypatch: pytest.MonkeyPatch):
    pool = pl.concat([pool_of(*(("q", text) for text in near_copies(150, seed=3))), awkward_pool()])
    pool = pool.unique("id", keep="first", maintain_order=True)
    whole = judge(pool, ngram=2)
    monkeypatch.setattr("methods.dedup._row_sets._ROWS", 7)
    monkeypatch.setattr("methods.dedup.minhash._SETS", 5)
    monkeypatch.setattr("methods.dedup._near_pairs._ELEMENTS", 40)
    monkeypatch.setattr("methods.texts.shingles._CHARACTERS", 50)
    monkeypatch.setattr("methods.spill.IN_MEMORY", 0)
    monkeypatch.setattr("methods.texts.minhash._BLOCK", 64)
    assert judge(pool, ngram=2).equals(whole)


@pytest.mark.parametrize(("on", "out"), [("prompt", 1), ("answer", 1), ("both", 0)])
def test_only_the_chosen_text_counts(on: str, out: int):
    other = "A quite different sentence about rivers and the towns that stand on both of their banks"
    third = "Yet another one that speaks of engines, how they turn and what they burn all day long"
    assert len(dropped(pool_of((TEXT, other), (TEXT, third), (other, third)), on=on)) == out


def test_a_long_system_prompt_that_all_share_does_not_make_all_alike():
    system = ("system", "You are a helpful assistant. " + TEXT * 20)
    pool = pool_of(
        [system, ("user", "Name three rivers of the north"), ("assistant", "Ob, Lena and Yenisei, all of them long")],
        [system, ("user", "Which engine burns hydrogen"), ("assistant", "A rocket engine, with liquid oxygen as well")],
    )
    assert dropped(pool) == dropped(pool, on="prompt") == []


def test_preference_examples_with_different_other_answers_differ():
    worse = [turns(("assistant", TEXT)), turns(("assistant", "Nothing of the kind was ever said by anybody here"))]
    pool = pool_of(("q", "Yes it is"), ("q", "Yes it is"), worse=worse)
    assert dropped(pool) == []
    assert len(dropped(pool, on="answer")) == 1


def test_who_stays_is_the_rules_choice():
    extra = ['{"meta":{"score":"0.5"},"q":3}', '{"q":"high"}', '{"meta":{"score":7},"q":9.5}']
    pool = pool_of(
        ("q", TEXT), ("q", TEXT + "!!!!!!!!!"), ("the longer question", TEXT), source=["raw", "web", "gold"]
    ).with_columns(extra=pl.Series(extra), synthetic_depth=pl.Series([2, 0, 1], dtype=pl.UInt8))  # fmt: skip

    def stays(**fields) -> int:
        (kept,) = {0, 1, 2} - set(dropped(pool, on="answer", **fields))
        return kept

    assert stays() == min(range(3), key=example_id)
    assert stays(keep="longest-answer") == 1
    assert stays(keep="longest") == 2
    assert stays(keep="least-synthetic") == 1
    assert stays(keep="best-source", source_priority=("gold", "raw")) == 2
    assert stays(keep="highest-field", keep_field="q") == 2
    assert stays(keep="highest-field", keep_field="meta.score") == 2


def test_scope_says_who_may_repeat_whom():
    pool = pool_of(*[("q", TEXT)] * 4, ("q", TEXT + " now"), source=["a", "a", "b", "b", "b"])
    within = set(dropped(pool, on="answer", scope="within-source"))
    assert len({0, 1} - within) == 1
    assert len({2, 3, 4} - within) == 1
    across = dropped(pool, on="answer", scope="across-sources", keep="best-source", source_priority=("a",))
    assert across == [2, 3, 4]  # both of a are let be
    assert dropped(pool[:2], on="answer", scope="across-sources") == []


@pytest.mark.parametrize("hashing", ["odd-32", "affine-61"])
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("shingle", ["words", "chars"])
def test_every_variant_finds_the_plain_case(hashing: str, verify: bool, shingle: str):
    pool = pool_of(("q", TEXT), ("q", "Name three rivers of the north"), ("q", TEXT + "."))
    assert len(dropped(pool, on="answer", hashing=hashing, verify=verify, shingle=shingle)) == 1


def test_texts_in_any_script_are_judged():
    arabic = "مرحبا كيف حالك اليوم يا صديقي العزيز أتمنى أن تكون بخير وعافية دائما"
    chinese = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    thai = "สวัสดีครับวันนี้อากาศดีมากเลยนะครับ"
    code = "def add(a, b):\n    '''Adds.'''\n    return a + b\n\n\nprint(add(1, 2))\nprint(add(3, 6))"
    table = "| name | age |\n|---|---|\n| Ann | 31 |\n| Bob | 27 |\n| Cid | 55 |"
    originals = [arabic, chinese, thai, code, table, "🙂🙃🎉" * 3]
    altered = [
        arabic.replace(" ", "\u00a0"), chinese.replace("，", ","), thai + "\u200b", code.replace("    ", "\t"),
        table.replace("---", ":---:"), " ".join("🙂🙃🎉" * 3),
    ]  # fmt: skip
    pool = pool_of(*(("q", text) for text in [*originals, *altered]))
    out = dropped(pool, on="answer")
    assert len(out) == 6
    assert {i % 6 for i in out} == set(range(6))


def test_texts_without_anything_visible_repeat_nothing():
    assert dropped(pool_of(("a", ""), ("b", ""), ("c", " \u200b\n"), ("d", "\u202e")), on="answer") == []
    assert judge(pool_of().clear()).height == 0


def test_a_megabyte_and_a_thousand_equals_are_no_trouble():
    long = " ".join(f"word{i}" for i in range(120_000))
    pool = pool_of(("q", long), ("q", long.replace("word7 ", "other ")), ("q", "x" * 1_000_000), *[("q", TEXT)] * 1000)
    out = dropped(pool, on="answer")
    assert len(out) == 1 + 999
    assert len({0, 1} - set(out)) == 1
    assert 2 not in out


@pytest.mark.parametrize("method", [MinHash(threshold=0.5), Exact(), Exact(scope="within-source")], ids=str)
def test_a_pool_read_in_batches_is_judged_as_one_in_memory(method: MinHash | Exact):
    texts = near_copies(120, seed=5)
    pool = pool_of(*(("q", text) for text in [*texts, *texts[:30]]), source=["a", "b", "c"] * 50)
    whole = method.judge(pool, using=NOTHING, rng=rng())
    assert whole["reason"].drop_nulls().len() > 5
    for size in (1, 7, 150):
        pieces = list(
            method.judge_batches(lambda size=size: pool.iter_slices(size), pool.height, using=NOTHING, rng=rng())
        )
        assert pl.concat(pieces).equals(whole)
    for told, stored in ((151, "gave only 150"), (149, "gave 150 or more")):
        with pytest.raises(InvariantViolation, match=stored):
            list(method.judge_batches(lambda: pool.iter_slices(50), told, using=NOTHING, rng=rng()))


def test_bad_configurations_say_what_to_do():
    for fields, message in (
        ({"bands": 4}, "give both, or neither"),
        ({"keep": "highest-field"}, "name the field"),
        ({"keep_field": "q"}, "go together"),
        ({"keep": "highest-field", "keep_field": "a'] | b"}, "not a field's name"),
        ({"threshold": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=message):
            MinHash(**fields)


def test_progress_rises_to_its_total():
    heard: list[tuple[int, int, str]] = []
    pool = pool_of(*(("q", text) for text in near_copies(40)))
    MinHash().judge(pool, using=Using(progress=lambda *told: heard.append(told)), rng=rng())
    assert [done for done, _, _ in heard] == sorted(done for done, _, _ in heard)
    assert heard[-1] == (120, 120, "bands")
    assert {note for _, _, note in heard} == {"shingles", "signatures", "bands"}


def test_planted_copies_of_the_shipped_instructions_are_found_and_nothing_unlike_is_dropped():
    path = Path(__file__).resolve().parents[3] / "recipes" / "data" / "permissive_instructions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = sorted({f"{row['instruction']} {row['output']}" for row in rows})
    long = [text for text in texts if len(words(text)) >= 25][:200]
    planted = [" ".join(["Now", *text.split(), "please"]) for text in long]
    pool = pool_of(*(("q", text) for text in [*texts, *planted]))
    said = judge(pool, on="answer", ngram=3, threshold=0.8)
    number = {example_id(i): i for i in range(pool.height)}
    everything = [*texts, *planted]
    together = set()
    for row in said.filter(fate="reject").iter_rows(named=True):
        i, home = number[row["id"]], number[bytes.fromhex(json.loads(row["evidence"])["repeats"])]
        together |= {i, home}
        assert row["score"] >= 0.8
        if "via" not in json.loads(row["evidence"]):
            assert similarity(everything[i], everything[home], 3) >= 0.8
    alike = [i for i, text in enumerate(long) if similarity(text, planted[i], 3) >= 0.8]
    found = [i for i in alike if len(texts) + i in together]
    assert len(alike) > 80
    assert len(found) >= 0.97 * len(alike)
