"""The managed engine, driven for real with a fake server as its executable: start, health, crash, stall, stop."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends import engines
from backends.llm._vllm_environment import interpreter, server_command
from backends.llm.vllm import VLLM
from backends.processes import alive, boot_id, born
from backends.protocols import Request, Sampling, ScoreRequest, Turn
from backends.weights import resolve
from schemas.errors import EngineDown, MissingExtra, UsageError
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.troubles import Place, counted
from tests.fakes.openai_faults import answer_text, logprob_of

FAKE = str(Path(__file__).resolve().parents[2] / "fakes" / "openai_server.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Engines of these tests are remembered here, and none is left behind."""
    monkeypatch.setenv("PROVENDER_ENGINES", str(tmp_path / "engines"))
    yield tmp_path / "engines"
    engines.stop_engine("vllm")


@pytest.fixture
def model(tmp_path: Path) -> str:
    place = tmp_path / "tiny"
    place.mkdir()
    (place / "config.json").write_text("{}")
    return str(place)


def config(model: str, **settings: Any) -> VLLM:
    return VLLM(model=model, command=(sys.executable, FAKE), start_seconds=20, **settings)


def faults(monkeypatch: pytest.MonkeyPatch, **what: Any) -> None:
    monkeypatch.setenv("FAKE_FAULTS", json.dumps({"latency": [0.005, 0.01], **what}))


def asks(n: int) -> list[Request]:
    return [Request.ask(f"prompt {i}", Sampling(max_tokens=8)) for i in range(n)]


def right(request: Request) -> str:
    return answer_text(json.dumps([{"role": "user", "content": request.messages[0].content}]))


def test_an_engine_starts_answers_is_found_again_and_stops_with_all_its_children(
    model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CHILD", str(tmp_path / "child"))
    monkeypatch.setenv("SOME_API_KEY", "not for the server")
    state = engines.start_engine(config(model))
    assert (state.name, state.state, state.model) == ("vllm", "running", "tiny")
    assert state.pid is not None
    assert psutil.Process(state.pid).net_connections()[0].laddr.ip == "127.0.0.1"
    assert psutil.Process(state.pid).environ()["DO_NOT_TRACK"] == "1"
    assert "SOME_API_KEY" not in psutil.Process(state.pid).environ()
    now = engines.engine_status()
    assert (now.state, now.requests, now.tokens) == ("running", 0, 16)  # the one token that proved progress
    assert "answers at http://127.0.0.1:" in engines.words(now)
    assert engines.start_engine(config(model)).pid == state.pid
    child = int((tmp_path / "child").read_text())
    assert psutil.pid_exists(child)
    assert engines.stop_engine()
    assert not psutil.pid_exists(state.pid)
    assert not psutil.pid_exists(child)
    assert engines.engine_status().state == "stopped"
    assert not engines.stop_engine()


def test_its_key_is_known_to_us_alone(model: str, folder: Path) -> None:
    state = engines.start_engine(config(model))
    record = folder / "vllm.json"
    key = json.loads(record.read_text())["key"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert record.stat().st_mode & 0o777 == 0o600
    assert key not in state.model_dump_json()
    assert not any(key in part for part in psutil.Process(state.pid).cmdline())
    opened = config(model).open()
    assert opened.generate(asks(1))[0].text == right(asks(1)[0])
    opened.close()


def test_another_model_does_not_take_over_a_running_engine(model: str, tmp_path: Path) -> None:
    engines.start_engine(config(model))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"other": 1}')
    with pytest.raises(EngineDown, match=r"running tiny with other settings .* `provender engine stop vllm` first"):
        config(str(other)).open()


def test_a_state_file_of_a_process_that_is_gone_is_not_believed(model: str, folder: Path) -> None:
    """The pid now belongs to somebody else (here: to this very test). It must neither be taken for the engine nor killed."""
    folder.mkdir(parents=True)
    record = {"name": "vllm", "model": "tiny", "spec": "x", "pid": os.getpid(), "birth": 1.0, "boot": boot_id()}
    (folder / "vllm.json").write_text(json.dumps({**record, "port": 1, "key": "k", "log": "l", "started_at": 0.0}))
    assert engines.engine_status().state == "crashed"
    state = engines.start_engine(config(model))
    assert state.pid != os.getpid()
    (folder / "vllm.json").write_text("{half a rec")
    assert engines.engine_status().state == "stopped"
    psutil.Process(state.pid).kill()


def test_a_pid_counts_only_with_its_birth_and_its_boot() -> None:
    me = os.getpid()
    assert alive(me, born(me), boot_id())
    assert not alive(me, born(me) - 100, boot_id())
    assert not alive(me, born(me), "another boot")
    assert not alive(2**22 + 1, 0.0, boot_id())


def test_a_server_that_dies_while_starting_shows_the_end_of_its_log(model: str) -> None:
    dying = VLLM(model=model, command=(sys.executable, "-c", "print('no GPU found'); raise SystemExit(4)"))
    with pytest.raises(EngineDown, match=r"died while starting:\nno GPU found"):
        engines.start_engine(dying)
    assert engines.engine_status().state == "stopped"


def test_health_without_progress_is_not_running(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults(monkeypatch, rates={"500": 1.0})
    with pytest.raises(EngineDown, match="did not answer within 1 s"):
        engines.start_engine(config(model).model_copy(update={"start_seconds": 1.0}))


def test_an_executable_that_is_not_there_is_named(model: str) -> None:
    with pytest.raises(EngineDown, match="/no/such/python"):
        engines.start_engine(VLLM(model=model, command=("/no/such/python",)))


def test_a_crash_on_the_way_costs_time_but_no_answer(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, crash_after=40, once=str(tmp_path / "crashed"))
    engine = config(model, stall_seconds=2.0, concurrency=8).open()
    replies = engine.generate(asks(100))
    assert [r.text for r in replies] == [right(r) for r in asks(100)]
    assert engine.restarts == 1
    assert (tmp_path / "crashed").exists()
    assert engines.engine_status().state == "running"
    engine.close()


@pytest.mark.parametrize(("fault", "kind"), [("crash_after", "crash"), ("stall_after", "stall")])
def test_a_crash_or_a_stall_and_the_restart_stand_in_the_ledger_of_the_step(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, kind: str
) -> None:
    faults(monkeypatch, **{fault: 10}, once=str(tmp_path / "happened"))
    engine = config(model, stall_seconds=2.0, concurrency=4).open()
    cache = CallCache(tmp_path / "calls.sqlite")
    CachedLLM(engine, cache, cache.budget("account", "generate"), step="generate@1").generate(asks(20))
    until = time.monotonic() + 30
    while time.monotonic() < until:  # the calls may be through before the restart is called done
        told = {line.what: line for line in counted(cache.path) or ()}
        if told["restart"].seconds:
            break
        time.sleep(0.05)
    engine.close()
    cache.close()
    assert told["restart"].times == engine.restarts >= 1  # a busy machine may see a sound server stand still
    assert 1 <= told[kind].times <= sum(told[one].times for one in ("crash", "stall") if one in told) <= engine.restarts
    assert told["restart"].seconds > 0.05, "how long nothing could be asked"
    assert told["restart"].place == Place("account", "account", "generate", "generate@1")


def test_work_in_hand_and_no_token_is_a_stall_and_is_mended(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(monkeypatch, stall_after=40, once=str(tmp_path / "stalled"))
    engine = config(model, stall_seconds=1.0, concurrency=8).open()
    replies = engine.generate(asks(60))
    assert [r.text for r in replies] == [right(r) for r in asks(60)]
    assert engine.restarts == 1
    engine.close()


def test_a_server_that_crashes_again_and_again_is_given_up(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults(monkeypatch, crash_after=5)
    engine = config(model, stall_seconds=1.0, concurrency=4, max_restarts=1).open()
    with pytest.raises(EngineDown, match="crashed or stalled 2 times"):
        engine.generate(asks(60))
    engine.close()


def test_a_managed_engine_scores(model: str) -> None:
    engine = config(model).open()
    got = engine.logprobs([ScoreRequest("", (Turn("user", "hi"),))])[0]
    assert got.logprobs == (logprob_of(2),)
    engine.close()


def test_a_server_of_somebody_else_is_only_talked_to(model: str) -> None:
    state = engines.start_engine(config(model))
    key = engines.key_of("vllm")
    assert key is not None
    os.environ["BORROWED"] = key.get_secret_value()
    engine = VLLM(model=model, base_url=state.base_url, api_key_env="BORROWED").open()
    assert engine.generate(asks(1))[0].ok
    assert not hasattr(engine, "restarts")
    engine.close()
    del os.environ["BORROWED"]


def test_an_environment_that_is_missing_names_the_command_that_makes_it(model: str) -> None:
    with pytest.raises(MissingExtra, match="provender engine start vllm"):
        VLLM(model=model).open()


def test_an_environment_without_vllm_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(MissingExtra):
        interpreter(tmp_path, install=False)


def test_in_process_needs_vllm_here(model: str) -> None:
    with pytest.raises(MissingExtra, match="mode: managed"):
        VLLM(model=model, mode="in-process").open()


def test_the_command_line_says_what_the_config_says(model: str) -> None:
    chosen = VLLM(
        model="org/name@abc", max_context_tokens=512, quantization="fp8", tensor_parallel=2, gpu_memory_fraction=0.5,
        prefix_caching=False, enforce_eager=True, extra_args=("--swap-space", "1"),
    )  # fmt: skip
    command = " ".join(server_command(chosen, resolve(chosen.model), Path("/env/bin/python")))
    for part in (
        "/env/bin/python -m vllm.entrypoints.openai.api_server --model org/name",
        "--revision abc", "--host 127.0.0.1 --port {port}", "--max-model-len 512", "--quantization fp8",
        "--tensor-parallel-size 2", "--gpu-memory-utilization 0.5", "--no-enable-prefix-caching", "--enforce-eager",
        "--swap-space 1", '"disable_any_whitespace":true',
    ):  # fmt: skip
        assert part in command


def test_only_what_decides_a_reply_is_identity(model: str) -> None:
    base = VLLM(model=model).identity()
    assert VLLM(model=model, tensor_parallel=4, concurrency=2, engine="two", prefix_caching=False).identity() == base
    assert VLLM(model=model, dtype="float32").identity() != base
    assert VLLM(model=model, max_context_tokens=64).identity() != base
    assert "model" not in base
    with pytest.raises(UsageError, match="no revision"):
        VLLM(model="org/name").identity()


@pytest.mark.parametrize("name", ["../up", "a/b", "", "A"])
def test_engine_names_are_no_paths(name: str) -> None:
    with pytest.raises(UsageError, match="engine name"):
        engines.engine_status(name)
