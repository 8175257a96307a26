"""Toxic or not by resemblance: embeddings of a few labelled texts, and how far a text leans to the toxic ones."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backends.protocols import Embedder

#: Texts of each kind without which nothing is decided.
FEWEST = 10

_PIECE = 400  # characters: an embedder reads a beginning only, and a long text hides a line


def labelled_texts(value: str) -> str:
    """The canonical content of a JSONL file of ``{"text": …, "toxic": true}`` given by path, or whole; else ``ValueError``."""
    text = value
    if not value.lstrip().startswith("{"):
        try:
            text = Path(value).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{value} cannot be read: {error}") from None
    rows: list[tuple[str, bool]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not isinstance(row.get("toxic"), bool):
            raise ValueError(f'line {number} is not of the form {{"text": "…", "toxic": true}}')
        rows.append((row["text"], row["toxic"]))
    for kind, count in (("toxic", sum(t for _, t in rows)), ("clean", sum(not t for _, t in rows))):
        if count < FEWEST:
            raise ValueError(f"{count} {kind} texts are too few to compare with; give at least {FEWEST} of each kind")
    return "\n".join(
        json.dumps({"text": said, "toxic": toxic}, ensure_ascii=False) for said, toxic in sorted(set(rows))
    )


@dataclass(frozen=True)
class Leaning:
    """The direction from clean to toxic texts, and how the clean ones lean when each is left out, ascending."""

    direction: np.ndarray
    clean: np.ndarray

    @staticmethod
    def of(labelled: str, embedder: Embedder) -> "Leaning":
        """From the content that `labelled_texts` gave."""
        rows = [json.loads(line) for line in labelled.splitlines()]
        toxic = embedder.embed([row["text"] for row in rows if row["toxic"]]).astype(np.float64)
        clean = embedder.embed([row["text"] for row in rows if not row["toxic"]]).astype(np.float64)
        n, total = len(clean), clean.sum(axis=0)
        without = (total - clean) / (n - 1)
        left_out = np.einsum("ij,ij->i", clean, toxic.mean(axis=0) - without)
        return Leaning(toxic.mean(axis=0) - total / n, np.sort(left_out))

    def shares(self, texts: Sequence[str], embedder: Embedder) -> np.ndarray:
        """Per text the share of clean texts that lean less to the toxic ones than its worst piece does, 0 to 1."""
        pieces = [list(_pieces(text)) for text in texts]
        each = [piece for some in pieces for piece in some]
        if not each:
            return np.zeros(len(texts))
        lean = np.round(embedder.embed(each).astype(np.float64) @ self.direction, 6)
        owner = np.repeat(np.arange(len(texts)), [len(some) for some in pieces])
        worst = np.full(len(texts), -np.inf)
        np.maximum.at(worst, owner, lean)
        return np.searchsorted(self.clean, worst, side="left") / len(self.clean)


def _pieces(text: str) -> Iterator[str]:
    """The text's paragraphs, long ones cut between words; nothing of a text without a visible character."""
    for paragraph in text.split("\n"):
        rest = paragraph.strip()
        while rest:
            cut = len(rest) if len(rest) <= _PIECE else rest.rfind(" ", 1, _PIECE)
            cut = cut if cut > 0 else _PIECE
            yield rest[:cut]
            rest = rest[cut:].lstrip()
