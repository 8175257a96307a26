"""Engines that print: their bars and reports are silenced while they load; what matters comes back as an error."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Held while something changes the state of the whole process: torch's generator and default type, how transformers builds
#: a model. Two models loaded at once in two threads got no weights ("Cannot copy out of meta tensor") or random ones.
ALONE = threading.RLock()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """One model at a time in this process, and quietly (see ``quiet``)."""
    with ALONE, quiet():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers and datasets without progress bars, load reports and advice; their levels are put back afterwards."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def call_home_off() -> None:
    """No usage statistics and no look at the hub from this process: files are local, or were asked for by name."""
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "WANDB_DISABLED", "TRL_EXPERIMENTAL_SILENCE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # PEFT imports bitsandbytes where it is installed, which then advises to install kernels from the hub
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
