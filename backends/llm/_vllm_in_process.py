"""vLLM inside this process, for an environment that holds vLLM and not Prefect (a GPU worker's scoring job)."""

import os
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from backends.llm._accept import accepted
from backends.llm._chat_tokens import ChatTokens
from backends.llm._rounds import Rounds
from backends.llm._vllm_environment import has_gpu, server_environment
from backends.protocols import Meter, Reply, Request, ScoreRequest, TokenLogprobs
from backends.weights import resolve
from schemas.errors import BackendError, MissingExtra

#: Requests given to vLLM at once: what a crash can cost, and how often progress shows.
_CHUNK = 512


class InProcess:
    """A loaded vLLM engine. One call at a time: vLLM batches within it."""

    price = None

    def __init__(self, config: Any) -> None:
        if find_spec("vllm") is None:
            raise MissingExtra(
                "mode: in-process needs vLLM in this very environment, where Prefect cannot be; use `mode: managed`"
            )
        for name, value in server_environment(config).items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm import LLM

        place = resolve(config.model)
        self.config, self._name, self._identity = config, place.name, config.identity()
        settings: dict[str, Any] = {
            "model": place.source,
            "revision": place.revision,
            "dtype": config.dtype,
            "max_model_len": config.max_context_tokens,
            "quantization": config.quantization,
            "tensor_parallel_size": config.tensor_parallel,
            "gpu_memory_utilization": config.gpu_memory_fraction,
            "enable_prefix_caching": config.prefix_caching,
            "enforce_eager": config.enforce_eager or not has_gpu(),
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        }
        self._llm = LLM(**{name: value for name, value in settings.items() if value is not None})
        self._tokens = ChatTokens(self._llm.get_tokenizer())
        self._context = int(self._llm.llm_engine.model_config.max_model_len)
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        """The config's."""
        return self._identity

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """Replies in order; given to vLLM in lists of 512."""
        with self._lock:
            rounds = Rounds(requests, meter, self.config.repairs)
            while rounds.open:
                self._round(dict(rounds.open), meter, rounds)
            return rounds.replies()

    def logprobs(self, requests: Sequence[ScoreRequest]) -> list[TokenLogprobs]:
        """Teacher-forced scores by ``prompt_logprobs``."""
        from vllm import SamplingParams

        asked: list[tuple[int, list[int], int, bool]] = []
        results = [TokenLogprobs(failure="refused-by-server")] * len(requests)
        for i, request in enumerate(requests):
            try:
                prompt = self._tokens.opening(request.messages)
            except BackendError:
                continue
            completion = self._tokens.completion(request.completion)
            room = self._context - len(prompt) - 1  # vLLM wants to draw one token
            if room > 0:
                asked.append((i, prompt + completion[:room], len(prompt), len(completion) > room))
        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        with self._lock:
            outputs = self._run([ids for _, ids, _, _ in asked], [params] * len(asked))
        for (i, ids, start, cut), output in zip(asked, outputs, strict=True):
            rows = output.prompt_logprobs[start:]
            values = tuple(float(row[token].logprob) for row, token in zip(rows, ids[start:], strict=True))
            results[i] = TokenLogprobs(values, truncated=cut, prompt_tokens=start)
        return results

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by the model's own tokenizer, nothing added."""
        return [len(self._tokens.plain(text)) for text in texts]

    def _round(self, requests: dict[int, Request], meter: Meter | None, rounds: Rounds) -> None:
        left = []
        ids: dict[int, list[int]] = {}
        for i, request in requests.items():
            made = self._ids(request)
            if isinstance(made, Reply):
                rounds.answer(i, made)
            else:
                ids[i] = made
                left.append(i)
        while left:
            sent: list[int] = []
            for i in left[:_CHUNK]:
                if meter is not None and not meter.admit(i):
                    break
                sent.append(i)
            if not sent:
                for i in left:
                    rounds.answer(i, Reply(failure="over-budget", finish_reason="error"))
                return
            left = left[len(sent) :]
            outputs = self._run([ids[i] for i in sent], [self._params(requests[i]) for i in sent])
            for i, output in zip(sent, outputs, strict=True):
                rounds.answer(i, self._reply(output, requests[i]))

    def _run(self, prompts: list[list[int]], params: list[Any]) -> list[Any]:
        return self._llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)

    def _ids(self, request: Request) -> Any:
        try:
            if request.prompt is not None:
                ids = self._tokens.plain(request.prompt, opening=True) or [self._tokens.end_of_turn]
            else:
                ids = self._tokens.chat(request.messages)
        except BackendError as error:
            return Reply(failure="refused-by-server", finish_reason="error", message=str(error))
        if len(ids) >= self._context:
            problem = f"the prompt has {len(ids)} tokens, the context of {self._name} is {self._context}; shorten it"
            return Reply(failure="refused-by-server", finish_reason="error", message=problem)
        return ids

    def _params(self, request: Request) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        drawn = request.sampling
        guided = StructuredOutputsParams(json=drawn.json_schema) if drawn.json_schema is not None else None
        return SamplingParams(
            max_tokens=drawn.max_tokens,
            temperature=drawn.temperature,
            top_p=drawn.top_p,
            top_k=drawn.top_k,
            stop=list(drawn.stop),
            presence_penalty=drawn.presence_penalty,
            frequency_penalty=drawn.frequency_penalty,
            seed=(drawn.seed + 7919 * drawn.index) % 2**31 if drawn.temperature > 0 else None,
            stop_token_ids=[self._tokens.end_of_turn],
            structured_outputs=guided,
        )

    def _reply(self, output: Any, request: Request) -> Reply:
        best = output.outputs[0]
        reply = Reply(
            text=best.text,
            finish_reason="length" if best.finish_reason == "length" else "stop",
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(best.token_ids),
            model=self._name,
        )
        return accepted(reply, request, accept_cut_off=self.config.accept_cut_off)
