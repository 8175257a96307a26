"""A chain of ways to write, each verified: the first that passes is taken, every try is told."""

from collections.abc import Sequence

from backends.protocols import Reply, Request
from methods.asking.rewriting import Passed, Way, rewrite
from tests.methods.llm_doubles import AnswersBy, asked_text, failed


def chain(items: Sequence[str], answer, good: set[str]):
    llm = AnswersBy(answer)
    ways = [
        Way("first", lambda item: Request.ask(f"first {item}")),
        Way("second", lambda item: None if item == "only-first" else Request.ask(f"second {item}")),
    ]
    verified: list[list[str]] = []

    def verify(pairs: Sequence[tuple[str, str]]) -> list[Passed]:
        verified.append([text for _, text in pairs])
        return [Passed(None if text in good else "not-good", (text.encode(),)) for _, text in pairs]

    return rewrite(items, ways, llm.generate, verify), llm, verified


def test_the_first_way_that_passes_is_taken_and_the_next_is_asked_only_for_the_rest():
    made, llm, verified = chain(["a", "b"], lambda r: asked_text(r), {"first a", "second b"})
    assert [(one.text, one.way) for one in made] == [("first a", "first"), ("second b", "second")]
    assert [asked_text(r) for r in llm.asked] == ["first a", "first b", "second b"]
    assert verified == [["first a", "first b"], ["second b"]]
    assert [(t.way, t.reason) for t in made[1].tries] == [("first", "not-good"), ("second", None)]
    assert len(made[1].calls) == 4  # two replies, two verdicts


def test_what_no_way_can_do_stays_open_with_every_try_told():
    made, llm, _ = chain(["only-first"], lambda r: asked_text(r), set())
    assert (made[0].text, made[0].way) == (None, None)
    assert [t.reason for t in made[0].tries] == ["not-good"]
    assert len(llm.asked) == 1


def test_failed_empty_and_cut_off_texts_are_never_verified():
    replies = {
        "first a": failed("timeout"),
        "first b": Reply(text=" "),
        "first c": Reply(text="x", finish_reason="length"),
    }
    made, _, verified = chain("abc", lambda r: replies.get(asked_text(r), asked_text(r)), {"second a"})
    assert [one.tries[0].reason for one in made] == ["call-timeout", "empty", "cut-off"]
    assert verified == [["second a", "second b", "second c"]]
    assert [one.way for one in made] == ["second", None, None]
