"""What became of every seed example: a parent of something new, or refused with a reason; checked before it is handed over."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from methods.asking.projection import copied
from methods.generate._ledger import Ledger, Pedigree
from schemas.errors import InvariantViolation
from schemas.identity import canonical_json
from schemas.method import Generated


@dataclass
class Account(Ledger):
    """A ledger of whole conversations, in which equal ones from different parents are different examples.

    ``held`` keeps what can only be decided when all is known, ``figures`` numbers that end in the step's notes.
    """

    held: list[Any] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """One more number under this name."""
        self.figures.setdefault(name, []).append(value)

    def mean(self, name: str) -> float | None:
        """Mean of the numbers under this name, to six digits; None without any."""
        values = self.figures.get(name, [])
        return round(sum(values) / len(values), 6) if values else None

    def create(
        self,
        messages: Sequence[Mapping[str, Any]],
        pedigree: Pedigree,
        *,
        tools: str | None = None,
        worse: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Record an example; ``worse`` are the turns that a preference example's rejected answer has in its place."""
        self.created.append(
            {
                "messages": copied(messages),
                "tools": tools,
                "worse": None if worse is None else copied(worse),
                "parents": list(pedigree.parents),
                "calls": list(pedigree.calls),
                "evidence": canonical_json(pedigree.evidence),
            }
        )

    def settled(self, ids: Iterable[bytes], notes: Mapping[str, Any], what: str) -> Generated:
        """What was made of these seed examples. Raises ``InvariantViolation`` if one of them went missing."""
        named = {parent for row in (*self.created, *self.refused) for parent in row["parents"]}
        missing = [id for id in ids if id not in named]
        if missing:
            raise InvariantViolation(
                f"{what} lost {len(missing)} of its seed examples, such as {missing[0].hex()}; report it as a bug"
            )
        created, refused = self.frames()
        counts = {"created": created.height, "refused": self.reasons()}
        return Generated(created, refused, {**counts, **notes})
