"""The gate, member by member: what was not compared with a benchmark's items does not train."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from methods.decontaminate.exact import Exact
from methods.decontaminate.min_k import MinK
from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.filter.heuristics import Heuristics
from schemas.errors import GateClosed, MissingDataset, RecipeError
from schemas.gate import Check, Gate
from schemas.lineage import DatasetRef
from schemas.recipe import BackendChoices, Decontamination, Finetuning
from storage.packs import shelf as packs
from storage.packs.making import add
from storage.questions.recorded_recipe import recorded_recipe
from storage.questions.show import show
from storage.reports.card import card
from storage.store import Store
from tasks.adhoc import adhoc_bench, taken_in
from tasks.bench import Bench, open_store
from tasks.check import looks
from tasks.decontaminate import Policy, decontaminate_examples
from tasks.events import Event, listening
from tasks.finetune import checked, finetune
from tasks.gate import contamination
from tasks.gather import gather
from tasks.judge import filter_examples
from tasks.publish import publish
from tests.tasks.fakes_recipe import LEAK, recipe

TALK = "Please describe the {} by the river for a reader who has never seen one"


def rows_file(path: Path, *asked: str) -> str:
    path.write_text(
        "".join(json.dumps({"instruction": q, "input": "", "output": "It is as it is."}) + "\n" for q in asked), "utf-8"
    )
    return str(path)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("PROVENDER_HOME", str(tmp_path / "home"))
    return adhoc_bench(tmp_path / "store", BackendChoices())


@pytest.fixture
def clean(tmp_path: Path, bench: Bench) -> DatasetRef:
    return taken_in(rows_file(tmp_path / "clean.jsonl", *(TALK.format(t) for t in ("mill", "bridge", "weir"))), bench)


@pytest.fixture
def leaky(tmp_path: Path, bench: Bench) -> DatasetRef:
    return taken_in(rows_file(tmp_path / "leaky.jsonl", LEAK, TALK.format("ford")), bench)


def look(bench: Bench, ref: DatasetRef, *names: str, allowed: float = 0.0) -> Check:
    store = open_store(bench)
    declared = {name: packs.load_pack(name).digest for name in names or ("gsm8k",)}
    return contamination(store, store.upstream(ref), declared, allowed)


def test_an_example_that_came_in_after_the_check_was_not_checked(bench: Bench, clean: DatasetRef, leaky: DatasetRef):
    done = decontaminate_examples(clean, ("gsm8k",), NgramCoverage(), bench)
    assert look(bench, done).status == "passed"
    check = look(bench, gather({"a": done, "b": leaky}, bench))
    assert (check.status, "saw 2 of its 5 examples against gsm8k" in check.says) == ("unchecked", True)


def test_an_example_that_was_dropped_and_comes_back_counts_as_flagged(
    bench: Bench, clean: DatasetRef, leaky: DatasetRef
):
    pool = gather({"a": clean, "b": leaky}, bench)
    done = decontaminate_examples(pool, ("gsm8k",), NgramCoverage(), bench)
    assert look(bench, done).status == "passed"
    back = gather({"checked": done, "again": filter_examples(leaky, Heuristics(), bench)}, bench)
    assert [look(bench, back).status, look(bench, back, allowed=0.25).status] == ["failed", "passed"]
    assert "1 flagged ones remain" in look(bench, back).says


def test_sources_may_be_checked_apart_and_by_several_methods(bench: Bench, clean: DatasetRef, leaky: DatasetRef):
    one = decontaminate_examples(clean, ("gsm8k", "mbpp"), Exact(), bench)
    other = decontaminate_examples(leaky, ("gsm8k",), NgramCoverage(), bench)
    both = gather({"one": one, "other": other}, bench)
    check = look(bench, both)
    assert (check.status, "by exact, ngram-coverage: 1 dropped, 0 flagged ones remain" in check.says) == (
        "passed",
        True,
    )
    assert look(bench, both, "mbpp").says.startswith("no decontaminate step saw 1 of its 4 examples against mbpp")
    assert look(bench, both, "mmlu").says == "it was checked by no decontaminate step against mmlu"


def test_report_only_keeps_what_it_flags_and_closes_the_gate(bench: Bench, leaky: DatasetRef):
    done = decontaminate_examples(leaky, ("gsm8k",), NgramCoverage(), bench, Policy(report_only=True))
    manifest = open_store(bench).describe(done)
    assert (manifest.counts.rows_out, dict(manifest.reasons)) == (2, {})
    assert look(bench, done).status == "failed"
    assert done != decontaminate_examples(leaky, ("gsm8k",), NgramCoverage(), bench)
    assert open_store(bench).verify() == []


def test_flagged_pairs_and_the_items_they_hit_are_kept_beside_the_verdicts(bench: Bench, leaky: DatasetRef):
    done = decontaminate_examples(leaky, ("gsm8k", "mbpp"), NgramCoverage(), bench)
    store = open_store(bench)
    pairs = store.part(done, "sidecar/pairs")
    assert pairs.select("position", "benchmark", "item", "rule", "closeness").rows() == [
        (0, "gsm8k", "0", "ngram-coverage", 1.0)
    ]
    assert store.part(done, "sidecar/items")["prompt"][0].startswith("Janet")


def test_a_source_that_holds_too_much_of_a_benchmark_goes_whole(tmp_path: Path, bench: Bench, clean: DatasetRef):
    exam = [f"How many {t} stand by the river when every second one is taken away" for t in ("mills", "oaks", "boats")]
    own = tmp_path / "exam.jsonl"
    own.write_text("".join(json.dumps({"prompt": q, "answer": "7"}) + "\n" for q in exam), "utf-8")
    tainted = taken_in(rows_file(tmp_path / "tainted.jsonl", exam[0], TALK.format("pier")), bench)
    pool = gather({"a": clean, "b": tainted}, bench)
    done = decontaminate_examples(pool, (str(own),), NgramCoverage(), bench, Policy(max_source_overlap=0.3))
    manifest = open_store(bench).describe(done)
    assert dict(manifest.reasons) == {"ngram-coverage": 1, "contaminated-source": 1}
    assert manifest.summary["sources_over_the_limit"] == {"tainted": {"exam": 0.3333}}
    assert set(open_store(bench).pool(done)["source"]) == {"clean"}
    lenient = decontaminate_examples(pool, (str(own),), NgramCoverage(), bench, Policy(max_source_overlap=0.34))
    assert dict(open_store(bench).describe(lenient).reasons) == {"ngram-coverage": 1}


def test_batches_judge_as_the_whole_does(
    bench: Bench, clean: DatasetRef, leaky: DatasetRef, monkeypatch: pytest.MonkeyPatch
):
    pool = gather({"a": clean, "b": leaky}, bench)
    whole = decontaminate_examples(pool, ("gsm8k", "mmlu"), NgramCoverage(), bench)
    monkeypatch.setattr("tasks.decontaminate.BATCH_ROWS", 2)
    other = bench.model_copy(update={"store": bench.store.parent / "other"})
    again = gather({"a": taken_in(str(bench.store.parent / "clean.jsonl"), other),
                    "b": taken_in(str(bench.store.parent / "leaky.jsonl"), other),}, other)  # fmt: skip
    split = decontaminate_examples(again, ("gsm8k", "mmlu"), NgramCoverage(), other)
    one, two = open_store(bench).describe(whole), open_store(other).describe(split)
    assert (one.ref, one.digest, one.summary) == (two.ref, two.digest, two.summary)


def published(bench: Bench, ref: DatasetRef, *names: str) -> DatasetRef:
    gate = Decontamination.model_validate({"benchmarks": list(names), "by": {"method": "ngram-coverage"}})
    return publish("set", ref, gate, bench, {})


def how(**fields: Any) -> Finetuning:
    return Finetuning.model_validate({"by": {"backend": "pretend"}, **fields})


def test_a_newer_version_of_a_pack_closes_the_gate_again(tmp_path: Path, bench: Bench, clean: DatasetRef):
    own = tmp_path / "exam.jsonl"
    own.write_text(json.dumps({"prompt": "How many mills stand by the river at noon?"}) + "\n", "utf-8")
    assert add(str(own))[1].version == 1
    done = published(bench, decontaminate_examples(clean, ("exam",), NgramCoverage(), bench), "exam")
    assert checked(open_store(bench), done, how()).status == "passed"
    own.write_text(json.dumps({"prompt": "How many boats stand by the river at noon?"}) + "\n", "utf-8")
    assert add(str(own))[1].version == 2
    with pytest.raises(GateClosed, match="another version of exam"):
        checked(open_store(bench), done, how())
    stale = published(bench, decontaminate_examples(clean, ("gsm8k",), NgramCoverage(), bench), "exam")
    with pytest.raises(GateClosed, match="by no decontaminate step against exam"):
        checked(open_store(bench), stale, how())
    opened = checked(open_store(bench), done, how(override_gate="the new items are not ours"))
    assert (opened.status, "the new items are not ours" in opened.says) == ("overridden", True)


def test_a_benchmark_of_which_nothing_was_looked_for_is_not_checked(tmp_path: Path, bench: Bench, clean: DatasetRef):
    own = tmp_path / "exam.jsonl"
    texts = ["", "three word item", "Is seven prime?", None, "How many mills stand by the river?"]
    own.write_text("".join(json.dumps({"prompt": t, "answer": "Yes"}) + "\n" for t in texts[:4]), "utf-8")
    assert add(str(own))[1].version == 1
    made = decontaminate_examples(clean, ("exam",), NgramCoverage(), bench)
    assert open_store(bench).describe(made).summary["benchmarks"]["exam"]["looked_for"] == 0
    told = look(bench, made, "exam")
    assert (told.status, told.says[:46]) == ("unchecked", "none of the 4 items of exam has as many words ")
    assert "as ngram-coverage asks of one" in told.says
    assert look(
        bench, decontaminate_examples(clean, ("exam",), NgramCoverage(min_words=2), bench), "exam"
    ).says.endswith("too short to be looked for: 2 of 4 items of exam")
    own.write_text("".join(json.dumps({"prompt": t, "answer": "Yes"}) + "\n" for t in texts), "utf-8")
    assert add(str(own))[1].version == 2
    told = look(bench, decontaminate_examples(clean, ("exam",), NgramCoverage(), bench), "exam")
    assert (told.status, told.says.rpartition("; ")[2]) == (
        "passed",
        "too short to be looked for: 4 of 5 items of exam",
    )


def test_check_tells_of_items_that_are_too_short_before_anything_is_spent(tmp_path: Path):
    def told(*texts: str, **fields: Any) -> list[str]:
        own = tmp_path / "exam.jsonl"
        own.write_text("".join(json.dumps({"prompt": text, "answer": "Yes"}) + "\n" for text in texts), "utf-8")
        by = [{"method": "temporal"}, {"method": "ngram-coverage"}]
        return looks(recipe(tmp_path, decontaminate={"benchmarks": [str(own)], "by": by}, **fields), "recipe")

    short, long = "Is seven prime?", "How many mills stand by the river?"
    assert any(line.endswith("1 too short to be looked for") for line in told(short, long, finetune=None))
    assert any("no item of exam has enough words; lower `min_words`" in line for line in told(short, finetune=None))
    with pytest.raises(RecipeError, match=r"benchmarks\.0: no item of exam has enough words"):
        told(short, finetune={"by": {"backend": "pretend"}})


def test_what_one_person_opened_the_gate_for_is_not_open_to_everybody(bench: Bench, leaky: DatasetRef):
    done = published(
        bench, decontaminate_examples(leaky, ("gsm8k",), NgramCoverage(), bench, Policy(report_only=True)), "gsm8k"
    )
    heard: list[Event] = []
    with listening(heard.append):
        model = finetune.fn(done, how(override_gate="a study of leaks"), bench)
        assert "overridden: a study of leaks" in heard[-1].note
        with pytest.raises(GateClosed, match="1 flagged ones remain"):
            finetune.fn(done, how(), bench)
        assert finetune.fn(done, how(override_gate=" another study "), bench) == model
    assert heard[-1].note.startswith("it was trained before, and keeps what it was trained with")
    assert heard[-1].note.endswith("overridden: a study of leaks")
    store = open_store(bench)
    (run,) = show(store, done).training
    assert run.gate.startswith("contamination: ")
    assert run.gate.endswith("overridden: a study of leaks")
    assert f"gate of {model} overridden: contamination" in card(show(store, done))


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_reason_opens_nothing(blank: str):
    with pytest.raises(ValidationError, match="at least 1 character"):
        how(override_gate=blank)


def test_what_was_published_without_a_recipe_offers_none_to_run_again(bench: Bench, clean: DatasetRef):
    done = published(bench, clean, "gsm8k")
    with pytest.raises(
        MissingDataset, match="no recipe was recorded with set; `provender lineage set` shows its steps"
    ):
        recorded_recipe(open_store(bench), "set")
    assert show(open_store(bench), "set").reproduce == f"provender lineage set@v1\nprovender verify {done}"


def test_what_is_not_published_does_not_train(bench: Bench, clean: DatasetRef):
    done = decontaminate_examples(clean, ("gsm8k",), NgramCoverage(), bench)
    for ref in (clean, done):
        with pytest.raises(GateClosed, match="nothing was checked about it"):
            checked(open_store(bench), ref, how(override_gate="I know what I do"))


def test_a_method_that_compares_no_text_vouches_for_nothing(tmp_path: Path, bench: Bench, clean: DatasetRef):
    store = open_store(bench)
    done = store.describe(decontaminate_examples(clean, ("gsm8k",), NgramCoverage(), bench))
    silent = done.model_copy(update={"step": done.step.model_copy(update={"method": MinK().identity()})})
    digest = packs.load_pack("gsm8k").digest
    assert contamination(store, [silent], {"gsm8k": digest}, 0.0).says.endswith("no decontaminate step against gsm8k")
    lone = {"benchmarks": ["gsm8k"], "by": {"method": "temporal"}}
    with pytest.raises(RecipeError, match="temporal compares no text with an item"):
        looks(recipe(tmp_path, decontaminate=lone, finetune={"by": {"backend": "pretend"}}), "recipe")
    told = looks(recipe(tmp_path, decontaminate=lone, finetune=None), "recipe")  # nothing is trained: told, not refused
    assert any("temporal compares no text with an item" in note for note in told)


def test_conservation_cannot_be_overridden():
    gate = Gate(checks=(Check(name="conservation", status="failed", says="x"),)).overridden("because")
    assert gate.status == "failed"


def test_a_published_set_says_who_checked_it(bench: Bench, clean: DatasetRef):
    done = published(bench, decontaminate_examples(clean, ("gsm8k",), NgramCoverage(), bench), "gsm8k")
    gate = Store.open(bench.store).describe(done).summary["gate"]
    assert (gate["status"], pl.DataFrame(gate["checks"])["name"].to_list()[0]) == ("passed", "contamination")
