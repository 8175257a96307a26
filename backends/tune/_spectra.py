"""Singular values of weight gradients, without forming them: from what went into a matrix and what came back."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from schemas.errors import BackendError

#: A module by the name of its matrix and its place among the layers.
Matrix = tuple[str, Any]


def attention_matrices(model: Any) -> list[Matrix]:
    """The linear modules inside the model's attention, layers in order, adapters as the module they wrap.

    Raises ``BackendError`` where no module has attention in its path.
    """
    found: list[Matrix] = []
    for path, module in model.named_modules():
        parts = path.lower().split(".")
        inside = any("attn" in part or "attention" in part for part in parts[:-1])
        weight = getattr(getattr(module, "base_layer", module), "weight", None)
        nested = parts[-1] == "base_layer" or any("lora_" in part for part in parts)
        if inside and not nested and weight is not None and weight.dim() == 2:
            found.append((path.rsplit(".", 1)[-1], module))
    if not found:
        raise BackendError(
            f"{type(model).__name__} has no projection matrices of attention whose gradients could be looked at; "
            "use another model for the tuner"
        )
    return found


@contextmanager
def watched(matrices: Sequence[Matrix]) -> Generator[Callable[[], Mapping[str, tuple[np.ndarray, ...]]]]:
    """While it lasts, inputs and output gradients are kept; the function gives the singular values after ``backward``."""
    entered: list[Any] = [None] * len(matrices)
    returned: list[Any] = [None] * len(matrices)

    def keep_input(place: int) -> Callable[[Any, Any, Any], None]:
        def hook(_module: Any, inputs: Any, output: Any) -> None:
            entered[place] = inputs[0].detach()
            if output.requires_grad:
                output.register_hook(lambda gradient: returned.__setitem__(place, gradient.detach()))

        return hook

    handles = [module.register_forward_hook(keep_input(place)) for place, (_, module) in enumerate(matrices)]

    def spectra() -> Mapping[str, tuple[np.ndarray, ...]]:
        by_name: dict[str, list[np.ndarray]] = {}
        for (name, _), x, delta in zip(matrices, entered, returned, strict=True):
            by_name.setdefault(name, []).append(singular_values(x, delta))
        return {name: tuple(values) for name, values in by_name.items()}

    try:
        yield spectra
    finally:
        for handle in handles:
            handle.remove()


def singular_values(x: Any, delta: Any) -> np.ndarray:
    """Of the gradient ``delta^T x``, descending, float64; tensors (…, tokens, width), ``delta`` None for no gradient.

    By the QR of both factors, exact: with few tokens a small matrix is decomposed in place of a large one.
    """
    import torch

    if delta is None:
        return np.zeros(1)
    x, delta = (one.reshape(-1, one.shape[-1]).float() for one in (x, delta))
    tokens, least = len(x), min(x.shape[-1], delta.shape[-1])
    few = tokens < least
    core = torch.linalg.qr(delta.T, mode="r").R @ torch.linalg.qr(x.T, mode="r").R.T if few else delta.T @ x
    return torch.linalg.svdvals(core).double().cpu().numpy()
