"""Loads the model that is to be trained and its tokenizer: safetensors only, no code from outside, no network."""

from typing import Any

from backends.quiet import quiet_loading
from backends.train._four_bits import FOUR_BITS, load_bitsandbytes, settings
from backends.weights import ModelPlace
from schemas.errors import BackendError, UsageError
from schemas.training import Training


def load_tokenizer(place: ModelPlace, *, download: bool) -> Any:
    """The model's tokenizer, with a padding token; ``BackendError`` if it cannot be loaded."""
    from transformers import AutoTokenizer

    with quiet_loading():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                place.source,
                revision=place.revision,
                local_files_only=_offline(place, download),
                trust_remote_code=False,
            )
        except (OSError, ValueError) as error:
            raise BackendError(_cannot_load(place, error)) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UsageError(f"the tokenizer of {place.name} has neither a padding nor an end token; add one to its config")
    return tokenizer


def load_model(place: ModelPlace, training: Training, *, device: str, download: bool) -> Any:
    """The model in the precision of the run, on the CPU or the named device; in 4 bits for ``qlora`` and ``loftq``."""
    import torch

    # weights that are trained themselves stay in fp32: AdamW's small steps are lost in eight bits of mantissa
    frozen = training.adapter.kind != "full"
    dtype = torch.bfloat16 if frozen and is_bf16(training, device) else torch.float32
    if training.adapter.kind not in FOUR_BITS:
        return _loaded(place, download, dtype=dtype).to(device)
    load_bitsandbytes()
    # the device is named here, since weights in 4 bits are packed where they are to lie
    return _loaded(place, download, dtype=dtype, quantization_config=settings(dtype), device_map={"": device})


def load_whole(place: ModelPlace, *, download: bool) -> Any:
    """The model as its files hold it, on the CPU: what quantizing is compared with."""
    return _loaded(place, download, dtype="auto")


def is_bf16(training: Training, device: str) -> bool:
    """Whether the run computes in bfloat16. Adapters sit on bf16 weights; ``full`` keeps fp32 weights and autocasts."""
    import torch

    if training.precision != "auto":
        return training.precision == "bf16"
    # a pre-flight report may be made on a laptop for an accelerator that is elsewhere: those of today have it
    return device.startswith("cuda") and (not torch.cuda.is_available() or torch.cuda.is_bf16_supported())


def device_on_paper(wanted: str) -> str:
    """The device that a run is planned for, which need not be here; ``auto`` as `chosen_device` would take it."""
    return chosen_device(wanted) if wanted == "auto" else wanted


def chosen_device(wanted: str) -> str:
    """``cpu`` or ``cuda``; ``auto`` = cuda where there is one."""
    import torch

    if wanted != "auto":
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(f"device {wanted!r} is not here; set `device: auto`")
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def _loaded(place: ModelPlace, download: bool, **how: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet_loading():
        try:
            return AutoModelForCausalLM.from_pretrained(
                place.source,
                revision=place.revision,
                local_files_only=_offline(place, download),
                trust_remote_code=False,
                use_safetensors=True,
                **how,
            )
        except (OSError, ValueError) as error:
            raise BackendError(_cannot_load(place, error)) from error


def _offline(place: ModelPlace, download: bool) -> bool:
    return place.is_local or not download


def _cannot_load(place: ModelPlace, error: Exception) -> str:
    hint = (
        "check its files (safetensors only)" if place.is_local else "set `download: true` once, or give a local folder"
    )
    return f"the model {place.name!r} cannot be loaded: {str(error).splitlines()[0]}; {hint}"
