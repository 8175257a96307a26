"""A language model with planted log-probabilities: what the loss-based methods are checked against by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from backends.protocols import Reply, Request, ScoreRequest, TokenLogprobs
from backends.tune.simulated import SimulatedTuner


class Planted:
    """Scores ``completion`` given a prompt, or alone, by two tables; anything else costs one nat per word.

    A token is a word. Answers generation with the last turn's text reversed, so that replies differ by prompt.
    """

    def __init__(
        self, given: Mapping[str, TokenLogprobs] | None = None, alone: Mapping[str, TokenLogprobs] | None = None
    ):
        self.given, self.alone = dict(given or {}), dict(alone or {})
        self.asked: list[ScoreRequest] = []

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "planted"}

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        texts = [r.prompt if r.prompt is not None else r.messages[-1].content for r in requests]
        return [Reply(text=text[::-1][: r.sampling.max_tokens]) for r, text in zip(requests, texts, strict=True)]

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        self.asked += requests
        return [
            (self.given if r.messages else self.alone).get(
                r.completion, TokenLogprobs(tuple(-1.0 if r.messages else -1.5 for _ in r.completion.split()))
            )
            for r in requests
        ]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class Hashed:
    """Unit vectors from the words of a text: equal words, near vectors."""

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "hashed"}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 16), dtype=np.float32)
        for i, text in enumerate(texts):
            for word in text.split():
                rows[i, sum(word.encode()) % 16] += 1
            rows[i, 0] += 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Talkative(Planted):
    """Answers each of the pipeline's prompt shapes with something a parser can read, by the prompt's own words."""

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return [
            Reply(text=self._answer(r.prompt if r.prompt is not None else r.messages[-1].content, r.sampling.index))
            for r in requests
        ]

    def _answer(self, text: str, index: int) -> str:
        key = int.from_bytes(hashlib.sha256(f"{index} {text}".encode()).digest()[:4], "little")
        picked = [_NOUNS[(key >> (4 * i)) % len(_NOUNS)] for i in range(6)]
        if "Is it classification?" in text:
            return " No"
        if "Solve the task in Python" in text:
            tests = f"<tests>\n```python\nassert f{key}(1) == 1\n```\n</tests>"
            return f"```python\ndef f{key}(x):\n    return x\n```\n\n{tests}"
        if "doubles a number" in text and "<code>" not in text:
            return f"```python\ndef double(x):\n    return x * {2 + key % 2}\n```"
        if "<concepts>" in text:
            return f"Write code about {picked[0]} {key}."
        if "<code>" in text:
            return "loops, slicing"
        if "Conclusion: right" in text:
            return f"{' '.join(picked)}\nConclusion: {('right', 'wrong')[key % 2]}"
        if "Follow-up Reasoning:" in text:
            return f"Alternative Reasoning: {picked[0]}\nFollow-up Reasoning: {picked[1]}"
        if text.rstrip().endswith("Instruction:") and "###" in text:
            verb = _VERBS[key % len(_VERBS)]
            return f" {verb} {' '.join(picked)} {key}\n1. Input:\n<noinput>\n1. Output:\n{' '.join(picked)}\n###"
        if "series of tasks" in text or "series of classification tasks" in text:
            first = int(text.rstrip().rsplit("\n", 1)[-1].rstrip(". ") or 1)
            lines = [
                f"{first + i}. {_VERBS[(key + i) % len(_VERBS)]} {' '.join(picked[i:])} {key + i}" for i in range(4)
            ]
            return lines[0].split(". ", 1)[1] + "\n" + "\n".join(lines[1:])
        if "(A) Correct (B) Incorrect (C)" in text:
            return f"explanation: as it is, answer: {'ABC'[key % 3]}"
        if "Which answer is better?" in text:
            return f"reason: it is longer, verdict: {('A', 'B', 'tie')[key % 3]}"
        if "Write examples for each task" in text or "Write one input for each class label" in text:
            return f"Output: {' '.join(picked)}"
        return " ".join(picked)


class TunesIntoTalk:
    """A tuner whose every model is `Talkative`, but for what it was tuned on: that it repeats."""

    def identity(self) -> Mapping[str, Any]:
        return {"backend": "tunes-into-talk"}

    def tuned(self, conversations: Sequence[Sequence[Any]], *, rng_seed: int = 0, keep_order: bool = False) -> Any:
        return _Remembering({tuple(c[:-1]): c[-1].content for c in conversations})

    def untuned(self) -> Any:
        return Talkative()

    def start(self, rng_seed: int = 0) -> Any:
        """A session knows two skills, by a word in the text."""
        return SimulatedTuner(skills=("sky", "river")).open().start(rng_seed)


class _Remembering(Talkative):
    def __init__(self, learned: Mapping[Any, str]):
        super().__init__()
        self._learned = learned

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        said = super().generate(requests)
        return [Reply(text=self._learned.get(r.messages, one.text)) for r, one in zip(requests, said, strict=True)]


_NOUNS = ["river", "poem", "table", "number", "letter", "garden", "planet", "recipe", "engine", "market", "song", "bridge",
          "clock", "forest", "window", "story"]  # fmt: skip
_VERBS = [
    "Describe the",
    "Write about the",
    "Explain the",
    "Compare the",
    "List each",
    "Summarize the",
    "Translate the",
]
