"""The direction in which Adam would move along one example's gradient: what LESS compares."""

from collections.abc import Sequence
from typing import Any


def adam_direction(gradient: Any, first: Any, second: Any, betas: Sequence[float], eps: float) -> Any:
    """``m' / sqrt(v' + eps)`` of the moments after this gradient; numbers, arrays or tensors of one shape.

    As LESS has it: epsilon inside the root, no bias correction. Adam itself, in torch, adds epsilon outside.
    Paper: Xia et al. 2024, https://arxiv.org/abs/2402.04333

    >>> round(adam_direction(0.5, 0.1, 0.04, (0.9, 0.999), 1e-8), 6)
    0.69817
    """
    m = betas[0] * first + (1 - betas[0]) * gradient
    v = betas[1] * second + (1 - betas[1]) * gradient**2
    return m / (v + eps) ** 0.5
