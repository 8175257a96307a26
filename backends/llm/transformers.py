"""Hugging Face transformers in this process: for CPUs and small GPUs, generation and teacher-forced scoring."""

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.cpu import threads_for
from backends.llm._accept import accepted, cut_at_stop
from backends.llm._rounds import Rounds
from backends.protocols import Meter, Reply, Request, Scored, ScoreRequest, TokenLogprobs, Turn
from backends.quiet import call_home_off, quiet_loading
from backends.weights import folder_digest, resolve
from schemas.errors import BackendError, MissingExtra


class Transformers(BackendConfig):
    """A causal language model run by transformers. The same request gives the same reply, whatever stands beside it.

    ``model`` is ``sprout`` (the embedded one), a folder with safetensors, or ``org/name@revision``. No code from a
    model's repository is ever run. A request that does not fit the context fails alone.
    """

    billed: ClassVar[bool] = False

    backend: Literal["transformers"] = "transformers"
    model: str = speed(description="sprout, a folder, or org/name@revision; its weights or revision are the identity")
    adapter: Path | None = speed(
        None, description="folder of a PEFT adapter laid over the model; its weights count too"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="precision of the computation")
    chat_template: str | None = Field(None, description="Jinja text that replaces the model's own chat template")
    max_context_tokens: int | None = Field(None, ge=2, description="shorter context than the model's own")
    accept_cut_off: bool = Field(True, description="take replies that end at max_tokens (finish_reason says so)")
    repairs: int = Field(1, ge=0, le=5, description="how often a reply of the wrong shape is asked for again")
    device: str = speed("auto", description="auto (a GPU if there is one), cpu, cuda, cuda:1, mps")
    batch_size: int = speed(32, ge=1, description="most rows in one batch")
    batch_tokens: int = speed(65_536, ge=1, description="most tokens in one batch, prompts and longest replies")
    threads: int | None = speed(None, ge=1, description="CPU threads of torch; one for a small model by default")
    download: bool = speed(False, description="allow fetching a hub model that is not on this machine")

    def identity(self) -> dict[str, Any]:
        """Weights or revision instead of a path, and what else decides a reply."""
        adapter = {"adapter": folder_digest(self.adapter)} if self.adapter else {}
        return {**super().identity(), **resolve(self.model).identity(), **adapter}

    @property
    def called(self) -> str:
        """What people call the model: of a folder the identity holds a digest alone."""
        return resolve(self.model).name + (f"+{self.adapter.name}" if self.adapter else "")

    def open(self) -> "TransformersEngine":
        """Load the model. ``MissingExtra`` without torch and transformers, ``BackendError`` if the weights do not load."""
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise MissingExtra(
                    f"the transformers backend needs {package}: pip install 'provender[local]', or choose another backend"
                )
        return TransformersEngine(self)


class TransformersEngine:
    """A loaded model. One call at a time: others wait."""

    price = None
    billed = False

    def __init__(self, config: Transformers) -> None:
        from backends.llm._chat_tokens import ChatTokens

        call_home_off()
        self.config = config
        self._identity = config.identity()
        self._name = config.called
        self.model, tokenizer = load_model(config)
        self._tokens = ChatTokens(tokenizer, chat_template=config.chat_template)
        self._context = _context(self.model, tokenizer, config.max_context_tokens)
        tokenizer.model_max_length = 10**30  # the context is checked here, row by row, without the tokenizer's warning
        self._ends = _ends(self.model, self._tokens)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(self._ends)
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        """The config's."""
        return self._identity

    @property
    def name(self) -> str:
        """What its replies call the model."""
        return self._name

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """Replies in order; computed in batches of similar prompt length."""
        with self._lock, self._threads():
            rounds = Rounds(requests, meter, self.config.repairs)
            while rounds.open:
                self._round(dict(rounds.open), meter, rounds.answer)
            return rounds.replies()

    def logprobs(self, requests: Sequence[ScoreRequest], deliver: Scored | None = None) -> list[TokenLogprobs]:
        """Prompt and completion are tokenized apart; the end of the turn is scored too."""
        from backends.llm._teacher_forcing import completion_logprobs

        with self._lock, self._threads():
            pairs: list[tuple[list[int], list[int]]] = []
            results: list[TokenLogprobs | None] = []
            cut: list[bool] = []
            opening, completed = cache(self._opening), cache(self._tokens.completion)
            for request in requests:
                prompt, completion = opening(request.messages), completed(request.completion)
                room = self._context - len(prompt)
                fits = bool(prompt) and room > 0
                results.append(None if fits else TokenLogprobs(failure="refused-by-server"))
                cut.append(len(completion) > room)
                pairs.append((prompt, completion[:room]) if fits else ([self._pad], []))

            def known(i: int, row: list[float]) -> None:
                results[i] = found = TokenLogprobs(tuple(row), truncated=cut[i], prompt_tokens=len(pairs[i][0]))
                if deliver is not None:
                    deliver(i, found)

            completion_logprobs(
                self.model,
                pairs,
                pad=self._pad,
                batch_size=self.config.batch_size,
                batch_tokens=self.config.batch_tokens,
                told=known,
            )
        return [
            result or TokenLogprobs(truncated=was_cut, prompt_tokens=len(prompt))  # no token was to be scored
            for result, was_cut, (prompt, _) in zip(results, cut, pairs, strict=True)
        ]

    def _opening(self, messages: tuple[Turn, ...]) -> list[int]:
        """Ids before a completion; none where the template refuses the conversation."""
        try:
            return self._tokens.opening(messages)
        except BackendError:
            return []

    def _threads(self) -> AbstractContextManager[None]:
        return threads_for(self.model, self.config.threads, str(self.model.device))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by the model's own tokenizer, nothing added."""
        return [len(self._tokens.plain(text)) for text in texts]

    def _round(self, requests: dict[int, Request], meter: Meter | None, answer: Callable[[int, Reply], None]) -> None:
        """Ask each request once, batch by batch; ``answer(i, reply)`` as each one ends."""
        from backends.llm._decode import Row, decode

        rows: dict[int, Row] = {}
        for i, request in requests.items():
            made = self._row(request)
            if isinstance(made, Reply):
                answer(i, made)
            else:
                rows[i] = made
        left = sorted(rows, key=lambda i: (-len(rows[i].prompt), i))
        while left:
            batch = self._next_batch(left, rows)
            admitted: list[int] = []
            for i in batch:
                if meter is not None and not meter.admit(i):
                    break
                admitted.append(i)
            if not admitted:
                for i in left:
                    answer(i, Reply(failure="over-budget", finish_reason="error"))
                return
            left = left[len(admitted) :]
            place = {id(rows[i]): i for i in admitted}
            decode(
                self.model,
                [rows[i] for i in admitted],
                ends=self._ends,
                pad=self._pad,
                stopped=self._stopped,
                done=lambda row, place=place: answer(place[id(row)], self._reply(row, requests[place[id(row)]])),
            )

    def _row(self, request: Request) -> Any:
        """The request as token ids, or the reply that says why it cannot be asked."""
        from backends.llm._decode import Row

        try:
            if request.prompt is not None:
                prompt = self._tokens.plain(request.prompt, opening=True) or [self._tokens.end_of_turn]
            else:
                prompt = self._tokens.chat(request.messages)
        except BackendError as error:
            return Reply(failure="refused-by-server", finish_reason="error", message=str(error))
        room = self._context - len(prompt)
        if room < 1:
            return Reply(
                failure="refused-by-server",
                finish_reason="error",
                prompt_tokens=len(prompt),
                message=f"the prompt has {len(prompt)} tokens, the context of {self._name} is {self._context}; shorten it",
            )
        return Row(prompt, request.sampling, min(request.sampling.max_tokens, room))

    def _next_batch(self, left: Sequence[int], rows: Any) -> list[int]:
        """As many of the longest that are left as fit the batch limits."""
        batch: list[int] = []
        widest, longest = 0, 0
        for i in left[: self.config.batch_size]:
            widest, longest = max(widest, len(rows[i].prompt)), max(longest, rows[i].max_new)
            if batch and (widest + longest) * (len(batch) + 1) > self.config.batch_tokens:
                break
            batch.append(i)
        return batch

    def _stopped(self, row: Any) -> bool:
        """Whether a stop text has just been written; looks at the last tokens only."""
        longest = max(len(stop.encode()) for stop in row.sampling.stop)
        tail = self._tokens.tokenizer.decode(row.drawn[-(longest + 8) :], skip_special_tokens=True)
        return cut_at_stop(tail, row.sampling.stop)[1]

    def _reply(self, row: Any, request: Request) -> Reply:
        written = [token for token in row.drawn if token not in self._ends]
        text = self._tokens.tokenizer.decode(written, skip_special_tokens=True)
        text, stopped = cut_at_stop(text, request.sampling.stop)
        reply = Reply(
            text=text,
            finish_reason="stop" if stopped else row.finish,
            prompt_tokens=len(row.prompt),
            completion_tokens=len(row.drawn),
            model=self._name,
        )
        return accepted(reply, request, accept_cut_off=self.config.accept_cut_off)


def load_model(config: Transformers) -> tuple[Any, Any]:
    """Model (in evaluation mode, on its device) and tokenizer of a config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = resolve(config.model)
    where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": place.is_local or not config.download}
    if place.revision is not None:
        where["revision"] = place.revision
    with quiet_loading():
        try:
            if config.adapter is not None and (config.adapter / "tokenizer_config.json").is_file():
                # the adapter learned by its own chat template, which need not be the model's
                tokenizer = AutoTokenizer.from_pretrained(
                    str(config.adapter), trust_remote_code=False, local_files_only=True
                )
            else:
                tokenizer = AutoTokenizer.from_pretrained(place.source, **where)
            model = AutoModelForCausalLM.from_pretrained(
                place.source, use_safetensors=True, dtype=getattr(torch, config.dtype), **where
            )
        except (OSError, ValueError) as error:
            hint = "check its files (safetensors only)" if place.is_local else "set `download: true` once"
            raise BackendError(
                f"model {place.name!r} cannot be loaded: {str(error).splitlines()[0]}; {hint}"
            ) from error
        if config.adapter is not None:
            model = _with_adapter(model, config.adapter)
    return model.to(_device(config.device)).eval(), tokenizer


def _with_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter's weights merged in."""
    try:
        from peft import PeftModel
    except ImportError:
        raise MissingExtra("an adapter needs peft: pip install 'provender[local]'") from None
    if not (folder / "adapter_model.safetensors").is_file():
        raise BackendError(f"{folder} holds no adapter_model.safetensors; give the folder that a fine-tuning run wrote")
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _context(model: Any, tokenizer: Any, wanted: int | None) -> int:
    """Most tokens of prompt and reply together."""
    limits = [
        getattr(model.config.get_text_config(), "max_position_embeddings", None),
        tokenizer.model_max_length,
        wanted,
    ]
    known = [int(limit) for limit in limits if limit is not None and limit < 1e9]
    return min(known) if known else 4096


def _ends(model: Any, tokens: Any) -> frozenset[int]:
    """Ids after which a model has finished: its configuration's and the template's end of turn."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokens.end_of_turn, *(named if isinstance(named, list) else [named])}
    return frozenset(int(token) for token in ends if token is not None)
