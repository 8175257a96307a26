"""The unions of all backend configs: a file in a folder of ``backends`` (``llm``, ``embed``, …) is a member."""

from typing import TYPE_CHECKING

from backends.base import BackendConfig
from backends.union import backends_in, one_of, tag_of

if TYPE_CHECKING:  # what callers rely on
    AnyLLM = BackendConfig
    AnyEmbed = BackendConfig
    AnyTrain = BackendConfig
    AnyNLI = BackendConfig
    AnyTune = BackendConfig
    AnySandbox = BackendConfig
else:
    AnyLLM = one_of("backends.llm")
    AnyEmbed = one_of("backends.embed")
    AnyTrain = one_of("backends.train")
    AnyNLI = one_of("backends.nli")
    AnyTune = one_of("backends.tune")
    AnySandbox = one_of("backends.sandbox")

__all__ = ["AnyEmbed", "AnyLLM", "AnyNLI", "AnySandbox", "AnyTrain", "AnyTune", "backends_in", "tag_of"]
