"""Personal data that has a form: mail addresses, telephone numbers, cards, accounts, addresses of machines, keys."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.texts.personal import KINDS, Found, Kind, found_in
from schemas.examples import VERDICTS, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import FilterMethod, Using

_RULE = "personal-data"
_MASKED = "personal-data-masked"


class Pii(FilterMethod):
    """Masks or drops personal data that can be recognized by its form and checksum; the score is how many were found.

    Telephone numbers are told by libphonenumber's rules, cards and accounts by their check digits (python-stdnum).
    Names, street addresses and dates of birth have no form and are not found: measured on Microsoft Presidio's synthetic
    sentences, see docs/benchmarks.md. ``keep`` lists values that are public by purpose, such as ``example.com``.

    Paper: none; the entity kinds are those of Microsoft Presidio, https://github.com/microsoft/presidio
    """

    method: Literal["pii"] = "pii"
    per_example: ClassVar[bool] = True

    action: Literal["mask", "reject"] = Field("mask", description="mask: an edited example; reject: none at all")
    kinds: tuple[Kind, ...] = Field(KINDS, min_length=1, description="which kinds of data count")
    region: str = Field("US", pattern="^[A-Z]{2}$", description="country whose national telephone numbers are meant")
    phones: Literal["valid", "possible"] = Field(
        "valid", description="valid: numbers a country gives out; possible: anything of such a length, with false finds"
    )
    keep: tuple[str, ...] = Field(
        ("example.com", "example.org", "example.net", "127.0.0.1", "0.0.0.0", "255.255.255.255"),
        description="values that contain one of these are left alone",
    )

    def rules(self) -> Sequence[Rule]:
        """``personal-data`` (rejected) or ``personal-data-masked`` (edited)."""
        if self.action == "mask":
            return (Rule(name=_MASKED, says="personal data was replaced by its kind, as in <EMAIL>"),)
        return (Rule(name=_RULE, says="the text holds personal data"),)

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; calls no engine and draws no number. Evidence never repeats the data itself."""
        fates: list[str] = []
        reasons: list[str | None] = []
        scores: list[float] = []
        evidence: list[str | None] = []
        successors: list[list[dict[str, Any]] | None] = []
        for messages in pool["messages"].to_list():
            hits = [self._found(turn["content"] or "") for turn in messages]
            count = sum(map(len, hits))
            masked = self.action == "mask"
            scores.append(float(count))
            fates.append("keep" if not count else "edit" if masked else "reject")
            reasons.append(None if not count else _MASKED if masked else _RULE)
            evidence.append(canonical_json({"found": _places(hits)}) if count else None)
            successors.append(
                [
                    {**turn, "content": masked_text(turn["content"] or "", found)}
                    for turn, found in zip(messages, hits, strict=True)
                ]
                if count and masked
                else None
            )
        frame = pl.DataFrame({"id": pool["id"], "fate": fates, "reason": reasons, "score": scores})
        return conform(
            frame.with_columns(
                pl.Series("evidence", evidence, dtype=pl.String),
                pl.Series("successor", successors, dtype=VERDICTS["successor"]),
            ),
            VERDICTS,
            "filter/pii",
        )

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """How much of each kind was found."""
        counts: dict[str, int] = {}
        for text in verdicts["evidence"].drop_nulls():
            for hit in json.loads(text)["found"]:
                counts[hit["kind"]] = counts.get(hit["kind"], 0) + 1
        return {"personal data by kind": dict(sorted(counts.items()))}

    def _found(self, text: str) -> list[Found]:
        return [
            hit
            for hit in found_in(text, self.kinds, self.region, self.phones)
            if not any(public in text[hit.start : hit.end] for public in self.keep)
        ]


def masked_text(text: str, found: Sequence[Found]) -> str:
    """The text with each span replaced by its kind.

    >>> masked_text("Write to a@b.org now", [Found("email", 9, 16)])
    'Write to <EMAIL> now'
    """
    for hit in sorted(found, key=lambda hit: -hit.start):
        text = f"{text[: hit.start]}<{hit.kind.upper().replace('-', '_')}>{text[hit.end :]}"
    return text


def _places(hits: Sequence[Sequence[Found]]) -> list[dict[str, Any]]:
    return [
        {"turn": turn, "kind": hit.kind, "at": [hit.start, hit.end]} for turn, found in enumerate(hits) for hit in found
    ][:200]
