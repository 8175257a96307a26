"""vLLM as an engine that we start, watch and stop, reached over loopback; or in this process where Prefect is absent."""

import json
import threading
import time
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.llm.openai import OpenAI as OpenAIConfig
from backends.llm.openai import OpenAIEngine
from backends.protocols import LLM, Meter, Reply, Request, Scored, ScoreRequest, TokenLogprobs, Troubles
from backends.weights import ModelPlace, resolve
from schemas.errors import EngineDown, ProvenderError
from schemas.identity import fingerprint

if TYPE_CHECKING:
    from backends.engines import Launch


class VLLM(BackendConfig):
    """A model served by vLLM: paged attention, continuous batching, guided JSON, log-probabilities of prompts.

    ``open`` finds the engine running for this model and these settings, or starts it; it is restarted when it crashes
    or stalls, and what was answered stays answered. ``provender engine start|stop|status vllm`` does it by hand.
    """

    billed: ClassVar[bool] = False

    backend: Literal["vllm"] = "vllm"
    model: str = speed(description="sprout, a folder, or org/name@revision; its weights or revision are the identity")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="precision of the computation")
    max_context_tokens: int | None = Field(None, ge=16, description="shorter context than the model's own")
    quantization: str | None = Field(None, description="vLLM's name of a quantization, such as fp8 or awq")
    extra_args: tuple[str, ...] = Field((), description="further arguments of vLLM's server")
    accept_cut_off: bool = Field(True, description="take replies that end at max_tokens (finish_reason says so)")
    neutralize_control_tokens: bool = Field(True, description="write control tokens in a user's text apart")
    repairs: int = Field(1, ge=0, le=5, description="how often a reply of the wrong shape is asked for again")
    mode: Literal["managed", "in-process"] = speed(
        "managed", description="managed: a server of ours; in-process: where vLLM is importable and Prefect is not"
    )
    base_url: str | None = speed(None, description="a vLLM server that somebody else runs; nothing is started then")
    api_key_env: str | None = speed(None, description="NAME of the variable with the key of that server")
    engine: str = speed("vllm", description="name of the managed engine; different names run side by side")
    environment: Path | None = speed(None, description="virtual environment that holds vLLM; made where it is missing")
    command: tuple[str, ...] | None = speed(None, description="what to start instead; gets the server's arguments")
    tensor_parallel: int = speed(1, ge=1, description="GPUs that share the model")
    gpu_memory_fraction: float | None = speed(None, gt=0, le=1, description="share of the GPU's memory to use")
    prefix_caching: bool = speed(True, description="keep the state of shared prompt beginnings")
    enforce_eager: bool = speed(False, description="no CUDA graphs: starts sooner, runs slower")
    download: bool = speed(False, description="allow fetching a hub model that is not on this machine")
    concurrency: int = speed(128, ge=1, le=4096, description="most requests in flight")
    timeout_seconds: float = speed(600.0, gt=0, description="one attempt, to the last byte")
    start_seconds: float = speed(900.0, gt=0, description="how long the start may take")
    stall_seconds: float = speed(120.0, gt=0, description="requests in flight and no token for so long: restart")
    max_restarts: int = speed(3, ge=0, description="crashes and stalls of one opened engine that are mended")

    def identity(self) -> dict[str, Any]:
        """Weights or revision instead of a path, and what else decides a reply."""
        return {**super().identity(), **resolve(self.model).identity()}

    def open(self) -> LLM:
        """The engine, started if need be. ``MissingExtra`` without an environment, ``EngineDown`` if it does not start."""
        if self.mode == "in-process":
            from backends.llm._vllm_in_process import InProcess

            return InProcess(self)
        if self.base_url is not None:
            from backends.llm.openai import key_from

            return OpenAIEngine(self.client(self.base_url), key=key_from(self.api_key_env), identity=self.identity())
        return ManagedVLLM(self)

    def launch(self, *, install: bool) -> "Launch":
        """How the managed server is started."""
        from backends.engines import Launch
        from backends.llm._vllm_environment import interpreter, server_arguments, server_command, server_environment

        place = resolve(self.model)
        if self.command is not None:
            command: tuple[str, ...] = (*self.command, *server_arguments(self, place))
        else:
            command = server_command(self, place, interpreter(self.environment, install=install))
        env = server_environment(self)
        spec = fingerprint([list(command), env, place.identity()])
        return Launch(
            name=self.engine, model=place.name, command=command, env=env, spec=spec, start_seconds=self.start_seconds
        )

    def client(self, base_url: str) -> OpenAIConfig:
        """The same as a config of the openai backend."""
        place: ModelPlace = resolve(self.model)
        return OpenAIConfig(
            model=place.name,
            base_url=base_url,
            accept_cut_off=self.accept_cut_off,
            neutralize_control_tokens=self.neutralize_control_tokens,
            repairs=self.repairs,
            scoring="vllm",
            start_of_text=_start_of_text(place),
            concurrency=self.concurrency,
            timeout_seconds=self.timeout_seconds,
            outage_seconds=self.start_seconds,
            deadline_seconds=4 * (self.start_seconds + self.timeout_seconds),
        )


class ManagedVLLM:
    """Talks to the managed server as to any other, and mends it while a call is going on."""

    price = None
    billed = False

    def __init__(self, config: VLLM) -> None:
        from backends import engines

        self.config = config
        self._launch = config.launch(install=False)
        self.state = engines.start(self._launch)
        key = engines.key_of(self._launch.name)
        self._remote = OpenAIEngine(config.client(self.state.base_url), key=key, identity=config.identity())
        self._remote.patient()
        self._nurse = _Nurse(config, self._launch, self.state.port or 0, self._remote)
        self._close = weakref.finalize(self, _part, self._nurse, self._remote)

    @property
    def restarts(self) -> int:
        """How often the server has been mended since this engine was opened."""
        return self._nurse.restarts

    def identity(self) -> dict[str, Any]:
        """The config's."""
        return self._remote.identity()

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """Replies in order; a crash or stall of the server on the way costs time, not answers."""
        with self._nurse.during(getattr(meter, "troubles", None)):
            return self._remote.generate(requests, meter)

    def logprobs(
        self, requests: Sequence[ScoreRequest], troubles: Troubles | None = None, deliver: Scored | None = None
    ) -> list[TokenLogprobs]:
        """Teacher-forced scores by ``prompt_logprobs``."""
        with self._nurse.during(troubles):
            return self._remote.logprobs(requests, troubles, deliver)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An estimate: a quarter of the bytes."""
        return self._remote.count_tokens(texts)

    def close(self) -> None:
        """Let go of the connection; the server stays for the next one (`provender engine stop`)."""
        self._close()


class _Nurse:
    """Looks after the server while calls are going on: a dead process, or work in hand and no token, means a restart."""

    def __init__(self, config: VLLM, launch: "Launch", port: int, remote: OpenAIEngine) -> None:
        self.restarts = 0
        self._config, self._launch, self._port, self._remote = config, launch, port, remote
        self._going: list[Troubles | None] = []  # lists of calls, each with what counts its troubles
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="provender-vllm-nurse", daemon=True)
        self._thread.start()

    @contextmanager
    def during(self, troubles: Troubles | None) -> Generator[None]:
        """Watch while a list of calls is going on. What happens to the server counts once, for the oldest of them."""
        with self._lock:
            self._going.append(troubles)
        self._wake.set()
        try:
            yield
        finally:
            with self._lock:
                self._going.remove(troubles)
                if not self._going:
                    self._wake.clear()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self._wake.set()
        self._thread.join(5)

    def _watch(self) -> None:
        from backends.engines import metrics

        pause = min(5.0, self._config.stall_seconds / 4)
        tokens, moved = -1, time.monotonic()
        while not self._ended.is_set():
            if not self._wake.wait(1.0):
                moved = time.monotonic()
                continue
            if self._ended.wait(pause):
                return
            figures = metrics(self._port)
            if figures is not None and (figures[1] != tokens or figures[0] == 0):
                tokens, moved = figures[1], time.monotonic()
            dead = self._dead()
            if dead or time.monotonic() - moved > self._config.stall_seconds:
                counted = self._whose()
                if counted is not None:
                    counted.met("crash" if dead else "stall")
                if not self._mend(counted):
                    return
                tokens, moved = -1, time.monotonic()

    def _dead(self) -> bool:
        from backends.engines import engine_status

        return engine_status(self._launch.name).state in ("crashed", "stopped")

    def _mend(self, counted: Troubles | None) -> bool:
        """Restart the server, as often as is allowed; whether it lives.

        Each restart is counted as it begins: the calls may be through before it is called done. Its seconds follow.
        """
        from backends.engines import restart

        problem = "it answers no more"
        while self.restarts < self._config.max_restarts and not self._ended.is_set():
            self.restarts += 1
            began = time.monotonic()
            if counted is not None:
                counted.met("restart")
            try:
                restart(self._launch)
            except ProvenderError as error:
                problem = str(error)
            else:
                return True
            finally:
                if counted is not None:
                    counted.met("restart", 0, seconds=time.monotonic() - began)
        self._remote.give_up(
            EngineDown(
                f"engine {self._launch.name} crashed or stalled {self.restarts + 1} times and is given up; run again when "
                f"it is mended, everything answered is kept. Last: {problem}"
            )
        )
        return False

    def _whose(self) -> Troubles | None:
        """What counts the troubles of the oldest list of calls that has something to count with."""
        with self._lock:
            return next((one for one in self._going if one is not None), None)


def _start_of_text(place: ModelPlace) -> str:
    """The BOS token that a local model's tokenizer names (it may not add it by itself); empty if it names none."""
    path = Path(place.source) / "tokenizer_config.json"
    named = json.loads(path.read_text("utf-8")).get("bos_token") if place.is_local and path.is_file() else None
    return str(named["content"] if isinstance(named, dict) else named or "")


def _part(nurse: _Nurse, remote: OpenAIEngine) -> None:
    nurse.end()
    remote.close()
