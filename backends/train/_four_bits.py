"""Base weights in 4 bits, for the adapters ``qlora`` and ``loftq``: whether this machine can, how, and what it costs."""

import logging
import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from schemas.errors import BackendError, MissingExtra
from schemas.training import AdapterKind, Training

#: Adapters that are trained beside a base in 4 bits.
FOUR_BITS: frozenset[AdapterKind] = frozenset({"qlora", "loftq"})
#: How the base was held while such an adapter was trained; card, record and evaluations say it in these words.
AS_TRAINED = "4 bits (NF4, double quantization)"
#: 4 bits, one byte of scale per 64 weights, and a float per 256 of those scales.
BYTES_PER_WEIGHT = 0.5 + 1 / 64 + 4 / (64 * 256)

#: The first release whose 4-bit kernels on a CPU hold for training as well.
_LEAST = (0, 49)
_INSTALL = "pip install 'provender[qlora]'"


def require(training: Training, device: str) -> None:
    """``MissingExtra`` or ``BackendError`` where the adapter needs 4-bit weights and this machine cannot have them."""
    if training.adapter.kind not in FOUR_BITS:
        return
    if lacking(training):
        raise MissingExtra(lacking(training))
    found = metadata.version("bitsandbytes")
    if tuple(int(part) for part in found.split(".")[:2] if part.isdigit()) < _LEAST:
        raise BackendError(
            f"adapter {training.adapter.kind!r} needs bitsandbytes {_LEAST[0]}.{_LEAST[1]} or later, here is {found}; "
            f"{_INSTALL}, or use `adapter: lora`"
        )
    kind = device.partition(":")[0]
    supported = sorted(load_bitsandbytes().supported_torch_devices)
    if kind not in supported:
        raise BackendError(
            f"bitsandbytes {found} has no 4-bit weights on the device {device!r}, only on {', '.join(supported)}; "
            "set `device: cpu` to try it out, or use `adapter: lora`"
        )


def warnings_of(training: Training, device: str) -> tuple[str, ...]:
    """What the pre-flight report says about 4-bit weights: that they save a CPU no time, or that the package is missing."""
    if training.adapter.kind not in FOUR_BITS:
        return ()
    said: list[str] = []
    if lacking(training):
        said.append(lacking(training))
    if device == "cpu":
        said.append(  # 3 to 10 % more processor time than lora, see docs/benchmarks.md
            f"adapter {training.adapter.kind!r} holds the base in 4 bits, which saves memory and no time: on a CPU it is for "
            "trying out, and where the whole base fits into memory `lora` loses nothing to quantizing"
        )
    return tuple(said)


def settings(dtype: Any) -> Any:
    """What transformers is told: NF4 with double quantization as in the paper, computed in the run's own precision.

    Paper: Dettmers et al. 2023, QLoRA (https://arxiv.org/abs/2305.14314), section 3.
    """
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def load_bitsandbytes() -> Any:
    """The package, imported quietly, and with the kernels it brings: by itself it would fetch others from the hub."""
    log = logging.getLogger("bitsandbytes")
    level, before = log.level, sys.modules.get("kernels")
    if "bitsandbytes" not in sys.modules:
        sys.modules["kernels"] = None  # type: ignore[assignment]  # "not installed", to whoever imports it meanwhile
        log.setLevel(logging.ERROR)
    try:
        import bitsandbytes
    finally:
        log.setLevel(level)
        if sys.modules.get("kernels", before) is not before:
            sys.modules.pop("kernels")
            if before is not None:
                sys.modules["kernels"] = before
    return bitsandbytes


def lacking(training: Training) -> str:
    """What must be installed for this training here, with the way out; empty where nothing is missing."""
    if training.adapter.kind not in FOUR_BITS or find_spec("bitsandbytes") is not None:
        return ""
    return (
        f"adapter {training.adapter.kind!r} holds the base in 4 bits and needs the package bitsandbytes, which is not here: "
        f"{_INSTALL}, or use `adapter: lora`"
    )
