"""Trainers that leave the training to others: a command with its files, and the fake that only plans."""

import json
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

from backends.train._left import weights_in
from backends.train.command import Command
from backends.train.pretend import Pretend
from schemas.errors import BackendError, GateClosed, MissingExtra, MissingSource, UnreadableSource
from schemas.examples import MESSAGES, turns
from schemas.training import TrainedOn

COLUMNS = {"id": pl.Binary, "messages": MESSAGES, "tools": pl.String, "worse": MESSAGES, "source": pl.String}


def published(path: Path, *, worse: bool = False, count: int = 5) -> Path:
    rows = [
        {
            "id": i.to_bytes(16, "big"),
            "messages": turns(("user", f"Question {i}"), ("assistant", f"Answer number {i}")),
            "tools": None,
            "worse": turns(("assistant", "No idea")) if worse else None,
            "source": "a" if i else "b",
        }
        for i in range(count)
    ]
    pl.DataFrame(rows, schema=COLUMNS).write_parquet(path)
    return path


@pytest.fixture
def data(tmp_path) -> Path:
    return published(tmp_path / "train.parquet")


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    path = tmp_path / "their_trainer.py"
    path.write_text(body)
    return (sys.executable, str(path), "{config}", "{data}", "{output}", "{metrics}")


TRAINER = """
import json, pathlib, sys
config, data, output, metrics = sys.argv[1:5]
rows = [json.loads(line) for line in open(data, encoding="utf-8")]
print("training on", len(rows), flush=True)
pathlib.Path(output, "weights.safetensors").write_bytes(b"weights")
json.dump({"loss": 0.25, "rows": len(rows), "note": "not a number", "ok": True}, open(metrics, "w"))
"""


def test_pretend_writes_what_it_would_do_and_no_weights(data, tmp_path):
    about = TrainedOn(dataset="publish@0123456789abcdef", digest="d" * 64)
    config = Pretend(batch_examples=2, epochs=2, order="sequential")
    run = config.open().train(data, tmp_path / "out", rng_seed=0, about=about)
    assert run.metrics == {"examples": 5.0, "preference_pairs": 0.0, "answer_words": 15.0, "steps": 6.0}
    known = json.loads((tmp_path / "out" / "training.json").read_text())
    assert known["pretended"] is True
    assert known["dataset"]["dataset"] == "publish@0123456789abcdef"
    assert known["sources"] == {"a": 4, "b": 1}
    assert [len(batch) for batch in known["first_batches"]] == [2, 2, 1]
    assert not list((tmp_path / "out").glob("**/*.safetensors"))


def test_pretend_refuses_an_empty_dataset(tmp_path):
    with pytest.raises(GateClosed, match="nothing to train on"):
        Pretend().open().train(published(tmp_path / "t.parquet", count=0), tmp_path / "out", rng_seed=0)


def test_a_missing_or_torn_dataset_is_named(tmp_path):
    with pytest.raises(MissingSource, match=r"none\.parquet is not there"):
        Pretend().open().train(tmp_path / "none.parquet", tmp_path / "out", rng_seed=0)
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(published(tmp_path / "t.parquet").read_bytes()[:200])
    with pytest.raises(UnreadableSource, match="cannot be read as Parquet"):
        Pretend().open().train(torn, tmp_path / "out", rng_seed=0)


def test_a_command_gets_dataset_and_config_and_its_metrics_come_back(data, tmp_path):
    told = []
    config = Command(command=script(tmp_path, TRAINER), model="org/model@abc", epochs=3)
    out = tmp_path / "out"
    run = config.open().train(data, out, rng_seed=4, progress=lambda *step: told.append(step))
    assert run.metrics == {"examples": 5.0, "loss": 0.25, "rows": 5.0}
    assert run.files == ("model/weights.safetensors", "README.md")
    assert told == [(1, 0, "training on 5")]
    assert (out / "command.log").read_text() == "training on 5\n"
    lines = [json.loads(line) for line in (out / "prepared" / "train.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "messages": [{"role": "user", "content": "Question 0"}, {"role": "assistant", "content": "Answer number 0"}]
    }
    settings = yaml.safe_load((out / "prepared" / "config.yaml").read_text())
    assert settings["epochs"] == 3
    assert settings["seed"] == 4
    assert settings["learning_rate"] == 2e-4


LIKE_TRANSFORMERS = """
import json, pathlib, sys
output = pathlib.Path(sys.argv[3])
for step, loss in ((1, 2.0), (2, 1.5)):
    folder = output / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"step %d" % step)
    (folder / "optimizer.pt").write_bytes(b"pickle")
    (folder / "README.md").write_text("a card that knows nothing of the dataset")
    history = [{"step": s, "loss": 2.5 - s / 2} for s in range(1, step + 1)] + [{"train_runtime": 1.0}]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
(output / "all_results.json").write_text(json.dumps({"train_loss": 1.75, "note": "text"}))
"""


def test_weights_metrics_and_losses_that_a_trainer_left_are_found(data, tmp_path):
    about = TrainedOn(dataset="publish@0123456789abcdef", gate="passed")
    trainer = Command(command=script(tmp_path, LIKE_TRANSFORMERS)).open()
    run = trainer.train(data, tmp_path / "out", rng_seed=0, about=about)
    out = tmp_path / "out"
    assert (out / "adapter_model.safetensors").read_bytes() == b"step 2", "the last checkpoint, where evaluate looks"
    assert not (out / "optimizer.pt").exists(), "pickles stay where they are"
    card = (out / "README.md").read_text()
    assert "a card that knows nothing" not in card, "ours, which names the dataset"
    assert "| dataset | `publish@0123456789abcdef` |" in card
    assert f"| trained by | `{Path(sys.executable).name}` |" in card
    assert "## Load it" in card
    assert run.metrics == {"examples": 5.0, "train_loss": 1.75}
    assert run.history == ({"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.5})
    assert Command(command=script(tmp_path, "raise SystemExit(1)")).open().train(data, out, rng_seed=0) == run


def test_weights_converted_for_the_plain_model_go_before_all_others(tmp_path):
    for name in ("checkpoint-1/converted/default", "checkpoint-1"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "adapter_model.safetensors").touch()
    (tmp_path / "adapter_model.safetensors").touch()
    assert weights_in(tmp_path) == tmp_path / "checkpoint-1" / "converted" / "default"
    assert weights_in(tmp_path / "nowhere") is None


def test_a_finished_command_is_not_run_again(data, tmp_path):
    config = Command(command=script(tmp_path, TRAINER))
    first = config.open().train(data, tmp_path / "out", rng_seed=0)
    (tmp_path / "their_trainer.py").write_text("raise SystemExit('run again')")
    assert config.open().train(data, tmp_path / "out", rng_seed=0) == first
    with pytest.raises(BackendError, match="run again"):
        config.open().train(data, tmp_path / "out", rng_seed=1)


def test_a_failing_command_is_reported_with_its_code_and_last_words(data, tmp_path):
    config = Command(command=script(tmp_path, "print('CUDA is out of memory'); raise SystemExit(3)"))
    with pytest.raises(BackendError, match="ended with 3; its last words: CUDA is out of memory"):
        config.open().train(data, tmp_path / "out", rng_seed=0)
    assert not (tmp_path / "out" / "training.json").exists()


def test_a_command_that_leaves_nothing_has_not_trained(data, tmp_path):
    with pytest.raises(BackendError, match="wrote nothing into"):
        Command(command=script(tmp_path, "pass")).open().train(data, tmp_path / "out", rng_seed=0)


def test_a_command_that_is_not_installed_is_named(data, tmp_path):
    with pytest.raises(MissingExtra, match="'no-such-trainer' cannot be run"):
        Command(command=("no-such-trainer", "{config}")).open().train(data, tmp_path / "out", rng_seed=0)


def test_a_command_out_of_time_is_ended_with_all_that_it_started(data, tmp_path):
    mark = tmp_path / "alive"
    grandchild = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    body = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}]); time.sleep(60)"
    began = time.monotonic()
    config = Command(command=script(tmp_path, body), timeout_seconds=0.6)
    with pytest.raises(BackendError, match=r"ended after 0\.6 s"):
        config.open().train(data, tmp_path / "out", rng_seed=0)
    assert time.monotonic() - began < 15
    time.sleep(max(0.0, 2.6 - (time.monotonic() - began)))
    assert not mark.exists()


def test_text_of_the_dataset_never_reaches_a_shell(tmp_path):
    frame = pl.DataFrame(
        {"messages": [turns(("user", "$(touch pwned); `touch pwned`"), ("assistant", "{output} {config}"))]},
        schema={"messages": MESSAGES},
    )
    path = tmp_path / "t.parquet"
    frame.write_parquet(path)
    run = Command(command=script(tmp_path, TRAINER)).open().train(path, tmp_path / "out", rng_seed=0)
    row = json.loads((run.output_dir / "prepared" / "train.jsonl").read_text())
    assert row["messages"][1]["content"] == "{output} {config}"
    assert not list(tmp_path.rglob("pwned"))


def test_an_unknown_place_in_the_command_is_a_mistake():
    with pytest.raises(ValueError, match=r"\{modle\} stands for nothing"):
        Command(command=("train", "{modle}"))


@pytest.mark.parametrize("fake", [Pretend(), Command(command=("x",))], ids=["pretend", "command"])
def test_identity_settles_the_learning_rate(fake):
    assert fake.identity()["learning_rate"] == 2e-4
    assert fake.identity() == fake.model_copy(update={"learning_rate": 2e-4}).identity()
