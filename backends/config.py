"""The unions of all backend configs: a file in a folder of ``backends`` (``llm``, ``embed``, …) is a member."""

from typing import TYPE_CHECKING

from backends.base import BackendConfig, any_of

if TYPE_CHECKING:  # what callers rely on
    AnyLLM = BackendConfig
    AnyEmbed = BackendConfig
    AnyTrain = BackendConfig
    AnyNLI = BackendConfig
    AnyTune = BackendConfig
    AnySandbox = BackendConfig
else:
    AnyLLM = any_of("backends.llm")
    AnyEmbed = any_of("backends.embed")
    AnyTrain = any_of("backends.train")
    AnyNLI = any_of("backends.nli")
    AnyTune = any_of("backends.tune")
    AnySandbox = any_of("backends.sandbox")
