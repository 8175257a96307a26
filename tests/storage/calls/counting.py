"""An engine for tests of the call cache: it counts what reaches it."""

from collections.abc import Sequence
from typing import Any

from backends.protocols import Reply, Request, Sampling, ScoreRequest, TokenLogprobs


class Counting:
    """An engine that counts what reaches it and plays planned replies; it takes no meter."""

    def __init__(self, *replies: Reply, name: str = "counting") -> None:
        self.asked: list[Request] = []
        self.scored: list[ScoreRequest] = []
        self.lists: list[int] = []
        self.price: tuple[float, float] | None = None
        self.scores_fail: Any = None
        self._replies, self._name = list(replies), name

    def identity(self) -> dict[str, Any]:
        return {"backend": "counting", "model": self._name}

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        self.lists.append(len(requests))
        self.asked += requests
        return [
            self._replies.pop(0) if self._replies else Reply(text=f"to {r.messages[0].content}", completion_tokens=2)
            for r in requests
        ]

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        self.scored += requests
        if self.scores_fail:
            return [TokenLogprobs(failure=self.scores_fail) for _ in requests]
        return [
            TokenLogprobs(
                (-0.1, -1.0 / 3, -2.5),
                truncated=r.completion == "long",
                prompt_tokens=sum(len(turn.content.split()) for turn in r.messages),
            )
            for r in requests
        ]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]


def asks(*words: str, **sampling: Any) -> list[Request]:
    return [Request.ask(word, Sampling(**sampling)) for word in words]
