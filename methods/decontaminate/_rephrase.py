"""Is one text a rephrasing of another? A question to a language model, asked in both orders, and what the replies say."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from backends.protocols import LLM, Reply, Request
from methods.asking.parsing import Unparsed
from methods.asking.prompt_files import Prompt
from methods.asking.sampling import Draw, failure_of, sample
from schemas.method import Progress, silent


@dataclass(frozen=True)
class Ruling:
    """What the judge says of a pair: ``yes`` and ``no`` agree in both orders, ``split`` do not; else why there is none.

    ``calls`` are the keys of the two calls, in hex; ``yes`` is the share of yes among the replies that could be read.
    """

    verdict: str
    yes: float | None
    calls: tuple[str, ...]


def same_question(prompt: Prompt, first: str, second: str, most: int) -> str:
    """One user turn about two texts, each cut to ``most`` characters."""
    return prompt.render(first=_cut(first, most), second=_cut(second, most))


def same_or_not(text: str) -> bool | Unparsed:
    """The last ``same: yes`` or ``same: no`` of a reply, or a reply of that one word.

    >>> same_or_not("reason: other numbers, same: No."), same_or_not("YES"), same_or_not("the same")
    (False, True, Unparsed(why='no same: yes or no'))
    """
    stated = re.findall(r"\bsame\s*[:=]\s*\W?(yes|no)\b", text, flags=re.IGNORECASE)
    alone = re.fullmatch(r"\W*(yes|no)\W*", text, flags=re.IGNORECASE)
    if stated:
        return stated[-1].lower() == "yes"
    return alone[1].lower() == "yes" if alone else Unparsed("no same: yes or no")


def rulings(
    judge: LLM, pairs: Sequence[tuple[str, str]], prompt: Prompt, draw: Draw, most: int, progress: Progress = silent
) -> list[Ruling]:
    """The judge's ruling on each pair, two calls each. Raises as `methods.asking.sampling.sample` does."""
    sampling = draw.sampling()
    requests = [
        Request.ask(same_question(prompt, *texts, most), sampling) for a, b in pairs for texts in ((a, b), (b, a))
    ]
    replies = sample(judge, requests, progress=progress, note="judged")
    return [ruling(one, other) for one, other in zip(replies[::2], replies[1::2], strict=True)]


def ruling(one: Reply, other: Reply) -> Ruling:
    """Both orders as one verdict; a failed call or a reply that cannot be read leaves none, never a default."""
    calls = tuple(reply.call.hex() for reply in (one, other) if reply.call)
    failed = [failure_of(reply, complete=False) for reply in (one, other)]
    said = [None if why else same_or_not(reply.text) for reply, why in zip((one, other), failed, strict=True)]
    read = [answer for answer in said if isinstance(answer, bool)]
    yes = sum(read) / len(read) if read else None
    if len(read) < len(said):
        return Ruling(next((why for why in failed if why), "unparsed"), yes, calls)
    return Ruling("split" if len(set(read)) > 1 else "yes" if read[0] else "no", yes, calls)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + " […]"
