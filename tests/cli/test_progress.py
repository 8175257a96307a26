"""What is shown while a step calls a model: the method's own count, and what the calls cost beside it."""

import pytest

from backends.llm.scripted import Scripted
from backends.protocols import Request
from cli.progress import Lines, Merged
from storage.calls.cached_llm import CachedLLM, CallCache
from tasks.events import Event, StepProgress, listening


def calls(done: int, total: int, note: str) -> Event:
    return Event("progress", "filter", "clear", "r", done=done, total=total, note=note, calls=True)


def own(done: int, total: int, note: str = "") -> Event:
    return Event("progress", "filter", "clear", "r", done=done, total=total, note=note)


def test_calls_are_shown_until_the_method_counts_for_itself() -> None:
    merged = Merged()
    assert merged(calls(3, 10, "spent $1")).done == 3
    shown = merged(own(5, 50, "reflecting"))
    assert (shown.done, shown.total, shown.note) == (5, 50, "reflecting; spent $1")
    shown = merged(calls(4, 10, "spent $2"))
    assert (shown.done, shown.total, shown.note) == (5, 50, "reflecting; spent $2")


def test_a_method_that_is_through_with_one_count_leaves_the_place_to_the_next_calls() -> None:
    merged = Merged()
    merged(own(50, 50))
    assert merged(calls(1, 9, "x")).total == 9


def test_a_new_step_starts_clean() -> None:
    merged = Merged()
    merged(own(5, 50))
    merged(Event("done", "filter", "clear", "r"))
    assert merged(calls(1, 9, "x")).total == 9


def test_plain_lines_say_what_was_spent_and_not_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(every_seconds=0.0)
    lines(calls(3, 10, "spent $1.00 (5 tokens), ETA 0:10"))
    lines(own(5, 50))
    slow = Lines(every_seconds=1000.0)
    slow(calls(9, 10, "never shown"))
    assert capsys.readouterr().err.splitlines() == [
        "filter: 3/10 calls, spent $1.00 (5 tokens), ETA 0:10",
        "filter: 5/50 spent $1.00 (5 tokens), ETA 0:10",
    ]


def test_a_step_tells_its_models_how_far_it_is_and_hears_what_they_spend(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cache = CallCache(tmp_path / "calls.sqlite")
    told = StepProgress("filter", "clear", "r")
    llm = CachedLLM(Scripted(default="yes").open(), cache, on_progress=told.calls)
    told.models = [llm]
    heard: list[Event] = []
    with listening(heard.append):
        told(0, 40)
        llm.generate([Request.ask(f"{i}") for i in range(10)])
        told(10, 40)
        llm.generate([Request.ask("more")])
    cache.close()
    assert heard[-1].calls
    assert heard[-1].note.startswith("spent $0.0000 of about $0.0000, "), "a script is free, and says so"
    assert heard[-1].note.endswith("22 of about 88 tokens"), "11 calls for 10 of 40"
