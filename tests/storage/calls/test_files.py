"""The call cache as a file: nothing of a damaged file is taken, no answer is ever changed, and the way back is exact."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from backends.protocols import TokenLogprobs
from cli.main import app
from schemas.errors import MissingSource, NewerStore, UnreadableSource, UsageError
from storage.calls.cached_llm import CallCache, Stored
from storage.calls.files import export_calls, import_calls
from storage.calls.keys import pack, scores_of
from storage.store import Store


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "calls.sqlite")
    yield cache
    cache.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[CallCache]:
    cache = CallCache(tmp_path / "other" / "calls.sqlite")
    yield cache
    cache.close()


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def fill(cache: CallCache) -> None:
    cache.put(Stored(key(1), "generate", "m", '{"prompt":"a"}', reply="one\nline", prompt_tokens=3, cost_usd=0.25))
    cache.put(
        Stored(key(2), "generate", "m", "{}", failure="cut-off", message="why", finish_reason="length", attempts=2)
    )
    cache.put(Stored(key(3), "score", "n", None, payload=pack(TokenLogprobs((-0.1, -2.0), truncated=True))))
    cache.flush()


@pytest.mark.parametrize("name", ["calls.jsonl", "calls.jsonl.zst"])
def test_what_was_exported_comes_back_unchanged(cache: CallCache, other: CallCache, tmp_path: Path, name: str) -> None:
    fill(cache)
    done = export_calls(cache, tmp_path / name)
    assert done.calls == 3
    taken = import_calls(other, tmp_path / name)
    assert (taken.calls, taken.added) == (3, 3)
    assert list(other.all()) == list(cache.all())
    assert scores_of(other.lookup([key(3)])[key(3)]) == TokenLogprobs((-0.1, -2.0), truncated=True)
    again = import_calls(other, tmp_path / name)
    assert (again.added, again.same) == (0, 3)


def test_equal_caches_give_equal_files(cache: CallCache, other: CallCache, tmp_path: Path) -> None:
    fill(cache)
    fill(other)
    a, b = export_calls(cache, tmp_path / "a"), export_calls(other, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert a.sha256 == b.sha256


def test_an_answer_that_is_here_stays_and_a_failure_gives_way(
    cache: CallCache, other: CallCache, tmp_path: Path
) -> None:
    fill(cache)
    export_calls(cache, tmp_path / "file")
    other.put(Stored(key(1), "generate", "m", "{}", reply="ours"))
    other.put(Stored(key(2), "generate", "m", "{}", reply="an answer where they failed"))
    other.put(Stored(key(3), "score", "n", None, failure="refused-by-server"))
    other.flush()
    taken = import_calls(other, tmp_path / "file")
    assert (taken.added, taken.differing, taken.replaced_failures) == (0, 2, 1)
    here = other.lookup([key(1), key(2), key(3)])
    assert here[key(1)].reply == "ours"
    assert here[key(2)].reply == "an answer where they failed"
    assert here[key(3)].failure is None


def test_failures_can_be_left_out(cache: CallCache, tmp_path: Path) -> None:
    fill(cache)
    assert export_calls(cache, tmp_path / "file", failures=False).calls == 2


def test_an_export_never_writes_over_a_file(cache: CallCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        export_calls(cache, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_no_byte_of_a_file_can_be_lost_or_changed_unseen(cache: CallCache, other: CallCache, tmp_path: Path) -> None:
    fill(cache)
    export_calls(cache, tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    bad = tmp_path / "bad"
    for cut in range(len(whole)):
        bad.write_bytes(whole[:cut])
        with pytest.raises(UnreadableSource):
            import_calls(other, bad)
    for place in range(0, len(whole), 7):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises((UnreadableSource, NewerStore)):
            import_calls(other, bad)
    assert other.stats()["calls"] == 0


def sealed(*lines: str) -> bytes:
    """Lines with a right digest, as a hostile writer would make it."""
    body = "".join(f"{line}\n" for line in ('{"format":"provender-calls","version":1}', *lines)).encode()
    foot = {"calls": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(foot, separators=(",", ":")).encode() + b"\n"


GOOD = {
    "key": "00" * 16, "kind": "generate", "model": "m", "reply": "r", "finish_reason": "stop",
    "prompt_tokens": 1, "completion_tokens": 1, "attempts": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"key": "00"}, "key"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
        ({"cost_usd": "1"}, "cost_usd"),
        ({"failure": "unheard-of"}, "failure"),
        ({"finish_reason": "rm -rf"}, "finish_reason"),
        ({"payload": "!!"}, "payload"),
        ({"payload": "AAAA"}, "payload"),
        ({"more": 1}, "more"),
        ({"reply": "half \ud800"}, "reply"),
    ],
    ids=str,
)
def test_a_call_of_the_wrong_shape_is_named_by_line_and_field(
    cache: CallCache, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    (tmp_path / "file").write_bytes(sealed(json.dumps(GOOD), json.dumps({**GOOD, **change})))
    with pytest.raises(UnreadableSource, match=rf"line 3, {told}"):
        import_calls(cache, tmp_path / "file")
    assert cache.stats()["calls"] == 0


def test_files_of_other_kinds_and_releases_are_refused(cache: CallCache, tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"a": 1}\n')
    with pytest.raises(UnreadableSource, match="no file of calls"):
        import_calls(cache, tmp_path / "file")
    (tmp_path / "file").write_text('{"format": "provender-calls", "version": 2}\n')
    with pytest.raises(NewerStore, match="upgrade"):
        import_calls(cache, tmp_path / "file")
    with pytest.raises(MissingSource, match="nowhere"):
        import_calls(cache, tmp_path / "nowhere")


@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=300))
def test_noise_is_never_taken(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache = CallCache(Path(folder) / "calls.sqlite")
        (Path(folder) / "file").write_bytes(data)
        with pytest.raises(UnreadableSource):
            import_calls(cache, Path(folder) / "file")
        cache.close()


def test_the_command_line_carries_answers_from_store_to_store(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Store.open(tmp_path / name)
    cache = CallCache(tmp_path / "a" / "calls.sqlite")
    fill(cache)
    cache.close()

    def told(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["cache", *words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    file = str(tmp_path / "calls.zst")
    assert told("export", file, "--store", str(tmp_path / "a"))["calls"] == 3
    assert told("import", file, "--store", str(tmp_path / "b"))["added"] == 3
    stats = told("stats", "--store", str(tmp_path / "b"))
    assert stats["answers"] == 2
    assert stats["failures"] == {"cut-off": 1}
    assert stats["cost_usd"] is None, "two of three calls have no known price"
    assert stats["models"]["m"]["calls"] == 2
    assert told("forget-failures", "--store", str(tmp_path / "b")) == {"forgotten": 1}
    table = CliRunner().invoke(app, ["cache", "stats", "--store", str(tmp_path / "b")])
    assert "unknown" in table.stdout
