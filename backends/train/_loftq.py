"""LoftQ's start: LoRA weights that make up, as far as their rank reaches, for what quantizing the base took away."""

from typing import Any, NamedTuple


class Factors(NamedTuple):
    """The start of one module: ``a`` has shape (rank, inputs), ``b`` (outputs, rank), both float32."""

    a: Any
    b: Any


def factors(weight: Any, quantized: Any, rank: int, scale: float) -> Factors:
    """The ``a`` and ``b`` for which ``quantized + scale * b @ a`` is as near to ``weight`` as that rank can be.

    Near in the Frobenius norm, by the singular value decomposition of the difference, half of each singular value on
    either side. Both matrices have shape (outputs, inputs); ``scale`` is LoRA's alpha / rank, which PEFT's own function
    leaves out: with alpha = 2 * rank its start overshoots by as much as it should have made up for.

    Paper: Li et al. 2023, LoftQ (https://arxiv.org/abs/2310.08659), algorithm 1 with one step, so that the base stays
    the plain quantized one, which everybody has.
    """
    import torch

    left, sizes, right = torch.linalg.svd(weight.float() - quantized.float(), full_matrices=False)
    roots = sizes[:rank].sqrt()
    return Factors(a=roots[:, None] * right[:rank], b=left[:, :rank] * roots / scale)


def start(model: Any, whole: Any) -> None:
    """Gives each 4-bit module of a PEFT model its start. ``whole`` is the same model without adapter, unquantized."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from peft.tuners.lora import Linear4bit

    original = dict(whole.named_modules())
    with torch.no_grad():
        for name, module in model.base_model.model.named_modules():
            if not isinstance(module, Linear4bit):
                continue
            held: Any = module.get_base_layer().weight
            weight = original[name].weight.to(held.device)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            rank = min(a.shape[0], *weight.shape)  # a matrix has no more singular values than that
            made = factors(weight, dequantize_4bit(held.data, held.quant_state), rank, module.scaling["default"])
            a.zero_()
            b.zero_()
            a[:rank].copy_(made.a)
            b[:, :rank].copy_(made.b)
