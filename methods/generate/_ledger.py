"""What a generating run has made and refused so far, kept so that nothing a model wrote goes missing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.examples import CREATED, REFUSED, conform, turns
from schemas.identity import canonical_json


@dataclass(frozen=True)
class Pedigree:
    """Where something came from: seed examples shown, calls that wrote it, and what a person may want to know."""

    parents: tuple[bytes, ...]
    calls: tuple[bytes, ...]
    evidence: Mapping[str, Any]

    def and_then(self, calls: Sequence[bytes] = (), **evidence: Any) -> "Pedigree":
        """The same, one step further on."""
        return Pedigree(self.parents, tuple(dict.fromkeys((*self.calls, *calls))), {**self.evidence, **evidence})


@dataclass
class Ledger:
    """Accepted examples and refused candidates, in the order in which they were decided."""

    created: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    _contents: set[tuple[str, str]] = field(default_factory=set)

    def accept(self, prompt: str, answer: str, pedigree: Pedigree, before: Sequence[tuple[str, str]] = ()) -> bool:
        """Record an example of one question and answer, unless the very same one is there already (then refused).

        ``before`` are turns (role, content) that stand in front of the question.
        """
        if (prompt, answer) in self._contents:
            self.refuse(f"{prompt}\n\n{answer}", "repeats-example", pedigree)
            return False
        self._contents.add((prompt, answer))
        self.created.append(
            {
                "messages": turns(*before, ("user", prompt), ("assistant", answer)),
                "tools": None,
                "worse": None,
                "parents": list(pedigree.parents),
                "calls": list(pedigree.calls),
                "evidence": canonical_json(pedigree.evidence),
            }
        )
        return True

    def refuse(self, text: str, reason: str, pedigree: Pedigree) -> None:
        """Record a candidate that did not become an example."""
        self.refused.append(
            {
                "text": text,
                "reason": reason,
                "evidence": canonical_json(pedigree.evidence),
                "parents": list(pedigree.parents),
                "calls": list(pedigree.calls),
            }
        )

    def reasons(self) -> dict[str, int]:
        """How many candidates were refused, by reason, commonest first."""
        return dict(Counter(row["reason"] for row in self.refused).most_common())

    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """CREATED and REFUSED columns."""
        created = pl.DataFrame(self.created, schema=dict(CREATED))
        refused = pl.DataFrame(self.refused, schema=dict(REFUSED))
        return conform(created, CREATED, "created examples"), conform(refused, REFUSED, "refused candidates")
