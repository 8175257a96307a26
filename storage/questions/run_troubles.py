"""What a run met while it asked its models: rate limits, errors, resets, repairs, waits, restarts, by step and model."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from storage.calls.troubles import WAITS, WORDS, Count, counted
from storage.questions.view import View
from storage.runs import Run


class MetLine(View):
    """What one model of one step met. A kind that never occurred is not in ``times``."""

    stage: str
    step: str  # the ref that was being made; empty where none was
    model: str
    requests: int
    times: Mapping[str, int]
    seconds: Mapping[str, float]  # waits, added up over calls that waited at once

    @property
    def waited(self) -> float:
        """Seconds of all its waits."""
        return sum(self.seconds.values())


class MetOnTheWay(View):
    """The lines of a run and of the unfinished runs that it resumes, and their sum."""

    lines: tuple[MetLine, ...]
    total: MetLine
    requests_by_run: Mapping[str, int]
    kinds: tuple[tuple[str, str], ...]  # those that occurred, with their words, in the order of tables
    waits: tuple[tuple[str, str], ...]

    @property
    def says(self) -> str:
        """One sentence."""
        told = [f"{word}: {self.total.times[kind]:,}" for kind, word in self.kinds]
        sent = f"{self.total.requests:,} request{'s' if self.total.requests != 1 else ''} sent"
        return f"{sent}; " + (", ".join(told) if told else "none of them met an error")


def met_on_the_way(root: Path, run: Run) -> MetOnTheWay | None:
    """None where nothing was counted: an older release, no model asked, or engines that do not count."""
    found = counted(root / "calls.sqlite", run.account or run.run_id)
    return summed(found) if found else None


def summed(found: Sequence[Count]) -> MetOnTheWay:
    """Counts of one account, or of any, as lines by stage, step and model."""
    groups: dict[tuple[str, str, str], list[Count]] = {}
    by_run: dict[str, int] = {}
    for one in found:
        groups.setdefault((one.place.stage, one.place.step, one.model), []).append(one)
        by_run[one.place.run] = by_run.get(one.place.run, 0) + (one.times if one.what == "request" else 0)
    total = _line(("", "", ""), found)
    return MetOnTheWay(
        lines=tuple(_line(group, some) for group, some in sorted(groups.items())),
        total=total,
        requests_by_run=by_run,
        kinds=tuple((kind, word) for kind, word in WORDS.items() if total.times.get(kind)),
        waits=tuple((kind, word) for kind, word in WAITS.items() if total.seconds.get(kind)),
    )


def _line(group: tuple[str, str, str], some: Iterable[Count]) -> MetLine:
    times: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for one in some:
        times[one.what] = times.get(one.what, 0) + one.times
        if one.what in WAITS:
            seconds[one.what] = round(seconds.get(one.what, 0.0) + one.seconds, 3)
    requests = times.pop("request", 0)
    stage, step, model = group
    return MetLine(stage=stage, step=step, model=model, requests=requests, times=times, seconds=seconds)
