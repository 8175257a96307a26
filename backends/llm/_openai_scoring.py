"""Log-probabilities of a given completion from a server: vLLM's ``prompt_logprobs``, or completions with ``echo``."""

import asyncio
from collections.abc import Sequence
from typing import Any

from backends.llm._openai_client import Client
from backends.llm._openai_run import Run
from backends.llm._openai_wire import json_object, neutralized
from backends.protocols import Scored, ScoreRequest, TokenLogprobs, Troubles, Turn
from schemas.errors import CannotScore

#: Scorings begun at once; the client's own pace decides how many are in flight.
_AT_ONCE = 256
#: So many scorings of a list, all refused by a server that never scored, are not the texts' own fault.
_CERTAIN = 3


async def score(
    client: Client,
    config: Any,
    requests: Sequence[ScoreRequest],
    troubles: Troubles | None = None,
    deliver: Scored | None = None,
) -> list[TokenLogprobs]:
    """One scoring per request, in order. Raises ``CannotScore`` where the server shows that it cannot do it at all.

    What succeeds is delivered at once; a failure may turn out to be the server's own, and is only returned.
    """
    scorer = (_VLLM if config.scoring == "vllm" else _Echo)(client, config, troubles)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(i: int, request: ScoreRequest) -> TokenLogprobs:
        async with places:
            found = await scorer.score(request)
        if deliver is not None and found.failure is None:
            deliver(i, found)
        return found

    await scorer.prepare()
    results = list(await asyncio.gather(*(one(i, request) for i, request in enumerate(requests))))
    client.scores |= any(result.failure is None for result in results)
    if not client.scores and (scorer.blank == len(results) or scorer.refused == len(results) >= _CERTAIN):
        raise CannotScore(
            f"{client.endpoint} does not score a given text as `scoring: {config.scoring}` expects ({scorer.said}); "
            "score with the transformers backend, or set the other `scoring` if that is how this server does it"
        )
    return results


class _Asker:
    def __init__(self, client: Client, config: Any, troubles: Troubles | None = None) -> None:
        self.client, self.config = client, config
        self.run = Run((), None, troubles)
        self.blank = self.refused = 0  # answers without log-probabilities, and refusals
        self.said = ""

    async def prepare(self) -> None:
        """Whatever is asked once."""

    async def ask(self, path: str, body: dict[str, Any], *, may_lack: bool = False) -> dict[str, Any] | TokenLogprobs:
        """A JSON object from the server, or the failure of this row. Raises what ends the run.

        With ``may_lack`` an address that the server does not have is a failure like others.
        """
        outcome, _ = await self.client.ask(path, body, json_object, self.run)
        if outcome.kind == "terminal" and outcome.status >= 400:
            self.refused += 1
            self.said = self.client.clean(outcome.reply.message)
        if outcome.kind == "fatal" and not (may_lack and outcome.status == 404):
            await self.client.end(self.run, outcome)
        if self.run.fatal is not None:
            raise self.run.fatal
        if outcome.body is None:
            return TokenLogprobs(failure=outcome.reply.failure or "undecodable")
        return outcome.body

    def without(self) -> TokenLogprobs:
        """The server answered, but without what was asked for."""
        self.blank += 1
        self.said = "its answer holds no log-probabilities of the prompt"
        self.run.met("undecodable")
        return TokenLogprobs(failure="undecodable")

    def clean(self, text: str) -> str:
        """A user's text as it is sent."""
        return neutralized(text) if self.config.neutralize_control_tokens else text


class _VLLM(_Asker):
    """Prompt and completion become ids by the server's own tokenizer, apart, and are scored as one prompt of ids."""

    async def prepare(self) -> None:
        """Find the end-of-turn token: what the template writes after an assistant's text."""
        word = "provender"
        opened = await self._ids(messages=[{"role": "user", "content": word}], add_generation_prompt=True)
        turns = [{"role": "user", "content": word}, {"role": "assistant", "content": word}]
        closed = await self._ids(messages=turns, add_generation_prompt=False)
        said = await self._ids(prompt=word, add_special_tokens=False)
        started = await self._ids(prompt="", add_special_tokens=True)
        if started == [] and self.config.start_of_text:
            started = await self._ids(prompt=self.config.start_of_text, add_special_tokens=False)
        known = [ids for ids in (opened, closed, said, started) if isinstance(ids, TokenLogprobs)]
        if known:
            raise CannotScore(
                f"{self.client.endpoint} has no /tokenize as vLLM has it ({known[0].failure}), so `scoring: vllm` is not for "
                "it; set `scoring: echo` if it can do that, or score with the transformers backend"
            )
        tail = closed[len(opened) + len(said) :]  # type: ignore[index]
        if closed[: len(opened) + len(said)] != [*opened, *said] or not tail:  # type: ignore[index, misc]
            raise CannotScore(
                f"the chat template of {self.config.model} does not continue its own prompt, so a completion cannot be "
                "scored apart; score with the transformers backend"
            )
        self._end = int(tail[0])
        self._start = [int(i) for i in started] or [self._end]  # type: ignore[union-attr]

    async def score(self, request: ScoreRequest) -> TokenLogprobs:
        """Tokenize, then one forward pass on the server."""
        turns = [_turn(turn, self.clean) for turn in request.messages]
        prompt = await self._ids(messages=turns, add_generation_prompt=True) if turns else self._start
        said = await self._ids(prompt=self.clean(request.completion), add_special_tokens=False)
        if isinstance(prompt, TokenLogprobs) or isinstance(said, TokenLogprobs):
            return prompt if isinstance(prompt, TokenLogprobs) else said  # type: ignore[return-value]
        completion = [*said, self._end]
        room = self._context - len(prompt) - 1  # the server wants to draw one token
        if room < 1:
            return TokenLogprobs(failure="refused-by-server")
        ids = [*prompt, *completion[:room]]
        body = {"prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, "add_special_tokens": False}
        got = await self.ask("/completions", {"model": self.config.model, **body})
        if isinstance(got, TokenLogprobs):
            return got
        try:
            rows = got["choices"][0]["prompt_logprobs"][len(prompt) :]
            values = tuple(float(row[str(i)]["logprob"]) for row, i in zip(rows, completion[:room], strict=True))
        except (KeyError, IndexError, TypeError, ValueError):
            return self.without()
        return TokenLogprobs(values, truncated=len(completion) > room, prompt_tokens=len(prompt))

    async def _ids(self, **what: Any) -> list[int] | TokenLogprobs:
        root = self.client.settings.base_url.removesuffix("/v1")
        got = await self.ask(f"{root}/tokenize", {"model": self.config.model, **what}, may_lack=True)
        if isinstance(got, TokenLogprobs):
            return got
        tokens = got.get("tokens")
        if not isinstance(tokens, list):
            return TokenLogprobs(failure="undecodable")
        self._context = int(got.get("max_model_len") or 2**31)
        return tokens


class _Echo(_Asker):
    """The server repeats the prompt with log-probabilities; its own offsets say where the completion begins."""

    async def score(self, request: ScoreRequest) -> TokenLogprobs:
        """One request with ``echo``."""
        prompt = self._rendered(request.messages)
        text = prompt + self.clean(request.completion) + self.config.end_of_turn
        body = {"prompt": text, "max_tokens": 0, "temperature": 0, "echo": True, "logprobs": 1}
        got = await self.ask("/completions", {"model": self.config.model, **body})
        if isinstance(got, TokenLogprobs):
            return got
        try:
            told = got["choices"][0]["logprobs"]
            pairs = list(zip(told["text_offset"], told["token_logprobs"], strict=True))
            ends = [offset for offset, _ in pairs[1:]] + [len(text)]
            values = tuple(
                float(value)
                for (_, value), end in zip(pairs, ends, strict=True)
                if end > len(prompt) and value is not None  # a first token has nothing before it
            )
        except (KeyError, IndexError, TypeError, ValueError):
            return self.without()
        return TokenLogprobs(values, prompt_tokens=len(pairs) - len(values))

    def _rendered(self, messages: Sequence[Turn]) -> str:
        if not messages:
            return ""
        if self.config.chat_template is None:
            raise CannotScore(
                "scoring a chat with echo needs `chat_template` in the backend: how the server writes turns"
            )
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        template = ImmutableSandboxedEnvironment().from_string(self.config.chat_template)
        return template.render(messages=[_turn(turn, self.clean) for turn in messages], add_generation_prompt=True)


def _turn(turn: Turn, clean: Any) -> dict[str, str]:
    return {"role": turn.role, "content": clean(turn.content)}
