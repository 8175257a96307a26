"""How fast to send: the pace finds a server's room, is not fooled by chance, and repeats stay within their budget."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.llm._pacing import LONGEST_WAIT_SECONDS, Pace, RepeatBudget, backoff_seconds, retry_after_seconds


class World:
    """A server of known room, a clock that we turn, and a pace that learns from both."""

    def __init__(self, ceiling: int, room: float = float("inf"), chance: float = 0.0) -> None:
        self.now = 0.0
        self.pace = Pace(ceiling, clock=lambda: self.now)
        self._room, self._chance = room, chance
        self._random = random.Random(1)

    def live(self, rounds: int) -> list[float]:
        """One round sends as many as the limit allows and takes 0.1 s; returns the limit after each."""
        limits = []
        for _ in range(rounds):
            sent = int(self.pace.limit)
            self.now += 0.1
            for i in range(sent):
                self.pace.in_flight += 1
                rejected = i >= self._room or self._random.random() < self._chance
                self.pace.leave(overloaded=rejected, seconds=0.1)
            limits.append(self.pace.limit)
        return limits


def test_a_sound_server_is_used_to_the_ceiling() -> None:
    assert World(ceiling=128).live(60)[-1] == 128


@pytest.mark.parametrize("room", [1, 6, 20, 50])
def test_a_server_with_little_room_gets_about_what_it_can_take(room: int) -> None:
    limits = World(ceiling=128, room=room).live(600)[100:]
    assert 0.5 * room <= sum(limits) / len(limits) <= 2 * room + 1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_rejections_by_chance_do_not_bring_the_pace_down(share: float) -> None:
    limits = World(ceiling=32, chance=share).live(600)[100:]
    assert sum(limits) / len(limits) >= 0.6 * 32


def test_a_few_answers_among_many_rejections_are_not_taken_for_chance() -> None:
    """A window of 2 answers after one of 6 looks like a loss of throughput; it is what a server with six places gives."""
    now = 0.0
    pace = Pace(64, clock=lambda: now)
    for good, rejected, limit in ((5, 59, 16), (6, 34, 8), (2, 38, 4), (40, 0, 5)):
        now += 1.0
        for k in range(good + rejected):
            pace.in_flight += 1
            pace.leave(overloaded=k < rejected, seconds=0.05)
        assert int(pace.limit) == limit


def test_a_server_that_rejects_everything_still_gets_one_at_a_time() -> None:
    limits = World(ceiling=32, room=0).live(300)
    assert limits[-1] == 1
    assert min(limits) == 1


def test_the_pace_climbs_again_when_the_server_recovers() -> None:
    world = World(ceiling=32, room=2)
    assert world.live(300)[-1] <= 6
    world._room = 1000
    assert world.live(400)[-1] == 32


def test_pauses_are_short_while_most_is_answered_and_long_in_an_outage() -> None:
    world = World(ceiling=16)
    assert world.pace.wait_cap_seconds == LONGEST_WAIT_SECONDS
    world.live(10)
    assert world.pace.wait_cap_seconds == pytest.approx(0.1)
    world._room = 0
    world.live(100)
    assert world.pace.wait_cap_seconds == LONGEST_WAIT_SECONDS


@given(st.integers(0, 10_000), st.floats(0.01, 60), st.integers())
def test_backoff_is_full_jitter_under_its_cap(attempt: int, cap: float, seed: int) -> None:
    assert 0 <= backoff_seconds(attempt, cap, random.Random(seed)) <= min(cap, 0.25 * 2.0 ** min(attempt, 16))


def test_backoff_doubles() -> None:
    chance = random.Random(0)
    means = [sum(backoff_seconds(n, 60.0, chance) for _ in range(2000)) / 2000 for n in range(4)]
    assert means == pytest.approx([0.125, 0.25, 0.5, 1.0], rel=0.1)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("-7", 0.0),
        ("86400000", 60.0),
        ("inf", 60.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Sat, 21 Nov 2026 10:00:07 GMT", 7.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sat, 99 Nov 2026 10:00:07 GMT", None),
    ],
)
def test_retry_after_in_seconds_as_a_date_and_absurd(value: str | None, seconds: float | None) -> None:
    ten_oclock = 1795255200.0  # 21 November 2026, 10:00:00 UTC
    assert retry_after_seconds(value, now=ten_oclock) == seconds


def test_repeats_are_a_fifth_of_the_requests_and_twenty() -> None:
    budget = RepeatBudget()
    budget.requests = 100
    assert [budget.take() for _ in range(41)] == [True] * 40 + [False]


@pytest.mark.parametrize(("ceiling", "first"), [(8, 8), (32, 16), (80, 40), (4096, 64)])
def test_a_pace_begins_with_half_of_what_is_allowed_within_bounds(ceiling: int, first: int) -> None:
    assert Pace(ceiling, "http://a-server-never-seen/v1").limit == first


def test_a_second_model_of_an_endpoint_begins_with_what_the_first_learned() -> None:
    """Six fit: the second begins near six, not with 64; another endpoint, and a lower ceiling, are not misled."""
    world = World(ceiling=128, room=6)
    world.pace = Pace(128, "http://one/v1", clock=lambda: world.now)
    world.live(600)
    learned = Pace(128, "http://one/v1").limit
    assert learned == world.pace.limit <= 13
    assert Pace(128, "http://two/v1").limit == 64
    assert Pace(2, "http://one/v1").limit == 2
