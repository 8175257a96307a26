"""Judging shapes of sprout's training data: is this answer right (A/B/C), and which of two answers is better.

The wrong answers are planted: another row's answer, or the row's own answer damaged. The sentence before a letter is a
template; it carries no reasoning, it only lets the reply have the form that the methods ask for and parse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from backends.train.sprout_items import Corpus, Item, item_key
from methods.asking.prompts import REFLECT_AGAIN, compare, question, reflect

T = TypeVar("T")
Letter = Literal["A", "B", "C"]
Verdict = Literal["A", "B", "tie"]
Planted = Literal["right", "of-another-source", "of-another-row", "damaged", "blank"]

REFLECT_REPLIES: dict[Letter, tuple[str, ...]] = {
    "A": ("The proposed answer responds to the question",),
    "B": (
        "The proposed answer does not respond to the question",
        "The proposed answer is damaged or has a wrong detail",
    ),
    "C": ("There is no answer to judge",),
}
COMPARE_REASONS: dict[Verdict, tuple[str, ...]] = {
    "A": ("Answer A responds to the question better", "Answer A is kinder and clearer"),
    "B": ("Answer B responds to the question better", "Answer B is kinder and clearer"),
    "tie": ("Both answers are the same",),
}
JUDGED_CHARACTERS = 600
BLANKS = ("", "", "N/A", "I don't know.", "<noinput>", "None")


@dataclass(frozen=True)
class Judged:
    """A judging question with its right reply; ``asked`` alternates user and assistant and ends with the user."""

    asked: tuple[str, ...]
    reply: str
    right: str  # the letter or verdict in it
    planted: str  # how the answer under judgement came about
    about: str  # key of the item, the same for every judgement of it


def reflect_reply(letter: Letter, which: int = 0) -> str:
    """``explanation: <one sentence>, answer: <letter>``."""
    return f"explanation: {REFLECT_REPLIES[letter][which]}, answer: {letter}"


def compare_reply(verdict: Verdict, which: int = 0) -> str:
    """``reason: <one sentence>, verdict: <A, B or tie>``."""
    return f"reason: {COMPARE_REASONS[verdict][which]}, verdict: {verdict}"


def asked_text(item: Item, rng: np.random.Generator) -> str:
    """The user turn of an item, in one of its phrasings."""
    return question(item.phrasings[int(rng.integers(len(item.phrasings)))], item.given)


def key_of(item: Item) -> str:
    """Digest of the item's input and answer: the same whatever its phrasing."""
    return item_key(item.given, item.output)


def judgeable(corpus: Corpus) -> dict[str, list[Item]]:
    """The items short enough to be judged within the context, by source."""
    found: dict[str, list[Item]] = {}
    for item in corpus.items:
        if len(item.phrasings[0]) + len(item.given) + len(item.output) <= JUDGED_CHARACTERS:
            found.setdefault(item.source, []).append(item)
    return found


def draw_reflection(pools: dict[str, list[Item]], shares: dict[str, float], rng: np.random.Generator) -> Judged:
    """A reflection: right with 0.45, wrong with 0.45, nothing to judge with 0.10; every third is asked again.

    Where it is asked again, the first reply is a wrong one in a quarter of the cases, so that the second reply is
    not a copy of the first.
    """
    item = draw_by_share(pools, shares, rng)
    planted, answer = _plant(item, pools, shares, rng)
    letter: Letter = "A" if planted == "right" else "C" if planted == "blank" else "B"
    which = 1 if planted == "damaged" else 0
    first = reflect(asked_text(item, rng), answer)
    reply = reflect_reply(letter, which)
    if rng.random() >= 1 / 3:
        return Judged((first,), reply, letter, planted, key_of(item))
    said = reply if rng.random() < 0.75 else reflect_reply("B" if letter == "A" else "A")
    return Judged((first, said, REFLECT_AGAIN), reply, letter, planted, key_of(item))


def draw_comparison(
    preferences: list[Item], pools: dict[str, list[Item]], shares: dict[str, float], rng: np.random.Generator
) -> Judged:
    """A comparison: chosen and rejected (0.5), the row's answer and another's (0.35), twice the same (0.15)."""
    kind = rng.random()
    if kind < 0.5 and preferences:
        item = preferences[int(rng.integers(len(preferences)))]
        better, worse, which, planted = item.output, item.worse, 1, "rejected"
    else:
        item = draw_by_share(pools, shares, rng)
        if kind >= 0.85:
            prompt = compare(asked_text(item, rng), item.output, item.output)
            return Judged((prompt,), compare_reply("tie"), "tie", "same", key_of(item))
        planted, worse = _plant_wrong(item, pools, shares, rng)
        better, which = item.output, 0
    verdict: Verdict = "A" if rng.random() < 0.5 else "B"
    first, second = (better, worse) if verdict == "A" else (worse, better)
    prompt = compare(asked_text(item, rng), first, second)
    return Judged((prompt,), compare_reply(verdict, which), verdict, planted, key_of(item))


def draw_by_share(pools: Mapping[str, Sequence[T]], shares: Mapping[str, float], rng: np.random.Generator) -> T:
    """A member of a pool drawn by ``shares``, over the pools that have members; evenly where no share names one."""
    names = [name for name in shares if pools.get(name) and shares[name] > 0]
    weights = np.array([shares[name] for name in names])
    if not names:
        names = [name for name, members in pools.items() if members]
        weights = np.ones(len(names))
    pool = pools[names[int(rng.choice(len(names), p=weights / weights.sum()))]]
    return pool[int(rng.integers(len(pool)))]


def damage(answer: str, rng: np.random.Generator) -> str:
    """The answer with its words shuffled, a digit changed, or broken off in the middle; never itself."""
    digits = [i for i, character in enumerate(answer) if character in "0123456789"]
    words = answer.split()
    kind = int(rng.integers(3))
    if kind == 0 and digits:
        at = digits[int(rng.integers(len(digits)))]
        return answer[:at] + str((int(answer[at]) + 1 + int(rng.integers(8))) % 10) + answer[at + 1 :]
    if kind == 1 and len(words) >= 6:
        return " ".join(words[: len(words) // 2])
    shuffled = [words[i] for i in rng.permutation(len(words))]
    if shuffled != words:
        return " ".join(shuffled)
    return answer[: len(answer) // 2].strip() or f"{answer} {answer}"


def _plant(
    item: Item, pools: dict[str, list[Item]], shares: dict[str, float], rng: np.random.Generator
) -> tuple[Planted, str]:
    kind = rng.random()
    if kind < 0.45:
        return "right", item.output
    if kind < 0.55:
        return "blank", BLANKS[int(rng.integers(len(BLANKS)))]
    return _plant_wrong(item, pools, shares, rng)


def _plant_wrong(
    item: Item, pools: dict[str, list[Item]], shares: dict[str, float], rng: np.random.Generator
) -> tuple[Planted, str]:
    kind = rng.random()
    if kind < 0.25:
        return "damaged", damage(item.output, rng)
    same = pools.get(item.source, [])
    for _ in range(8):
        near = kind < 0.75 and len(same) > 1
        other = same[int(rng.integers(len(same)))] if near else draw_by_share(pools, shares, rng)
        if other.output != item.output:
            return ("of-another-row" if other.source == item.source else "of-another-source"), other.output
    return "damaged", damage(item.output, rng)
