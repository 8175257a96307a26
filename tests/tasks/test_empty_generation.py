"""A generation that accepts nothing stops the run with its reasons, and what was refused stays in the store."""

import json

import pytest

from flows.generate import generate
from methods.generate.alpaca import Alpaca
from schemas.errors import EmptyStage, EngineDown
from schemas.recipe import BackendChoices
from storage.store import Store
from tests.fakes.openai_server import FakeServer, Faults

SEED = {"instruction": "Name a fruit that is yellow.", "instances": [{"input": "", "output": "banana"}]}


def test_an_empty_generation_says_what_was_refused_and_keeps_it(tmp_path):
    (tmp_path / "seeds.jsonl").write_text(json.dumps(SEED) + "\n", "utf-8")
    llm = {"backend": "scripted", "rules": [], "default": " Say it\n4. Input:\nx\n4. Output:\ny"}
    backends = BackendChoices.model_validate({"llm": llm})
    by = Alpaca(examples=2, max_candidates=3)
    for _ in range(2):  # the second time the step is there already
        with pytest.raises(
            EmptyStage, match=r"alpaca accepted none of \d+ candidates \(too-short 3.*provender show generate@"
        ):
            generate.fn(str(tmp_path / "seeds.jsonl"), by, tmp_path / "store", "made", backends)
    store = Store.open(tmp_path / "store")
    (made,) = (m for m in store.versions() if m.step.stage == "generate")
    assert made.counts.refused == store.part(made.ref, "refused").height >= 3
    assert store.verify() == []


def test_a_generation_without_a_single_answer_is_not_kept_so_that_a_rerun_asks_again(tmp_path):
    """Three candidates, each refused by a server that would answer others: fewer than stop a run on their own."""
    (tmp_path / "seeds.jsonl").write_text(json.dumps(SEED) + "\n", "utf-8")
    by = Alpaca(examples=2, max_candidates=3)
    faults = Faults(poison="banana")
    with FakeServer(faults) as server:
        llm = {"backend": "openai", "base_url": server.url, "model": "fake"}
        backends = BackendChoices.model_validate({"llm": llm})
        for _ in range(2):
            with pytest.raises(EngineDown, match=r"call-refused-by-server \d+: 400.*maximum context length.*run again"):
                generate.fn(str(tmp_path / "seeds.jsonl"), by, tmp_path / "store", "made", backends)
        assert server.counters()["requests"] > server.counters()["unique"], "what was in doubt is asked again"
    assert [m.step.stage for m in Store.open(tmp_path / "store").versions()] == ["ingest"]
