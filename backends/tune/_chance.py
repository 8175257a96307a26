"""What torch draws by chance in a process where several models load and learn at once: one at a time, each from its own state.

Torch has one generator per process and device. Without this, which numbers a model gets would depend on which thread was
first, and so would its weights.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from backends.quiet import ALONE


class Chance:
    """A session's own stream of torch's random numbers; ``restart`` begins it anew."""

    def __init__(self, rng_seed: int, device: str = "auto") -> None:
        self._rng_seed = rng_seed
        self._device = device
        self._states: list[Any] = []

    def restart(self) -> None:
        """As it was when the session began."""
        self._states = []

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """While it lasts, this stream is torch's, and no other session of the process draws; then torch has its own back."""
        import torch

        devices = [] if self._device == "cpu" else list(range(torch.cuda.device_count()))
        with ALONE, torch.random.fork_rng(devices):
            if self._states:
                torch.set_rng_state(self._states[0])
                for device, state in zip(devices, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            else:
                torch.manual_seed(self._rng_seed)
            yield
            self._states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]

    def where_it_draws(self, model: Any) -> AbstractContextManager[None]:
        """``drawing`` for a model with dropout; nothing for one without, whose steps may run beside others."""
        return self.drawing() if draws(model) else nullcontext()


def draws(model: Any) -> bool:
    """Whether a model draws when it learns: a dropout above 0 in a layer, or in the config of one that drops inside."""
    from torch import nn

    layers = any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules())
    config = model.config.get_text_config().to_dict()
    return layers or any(
        isinstance(value, float) and value > 0
        for name, value in config.items()
        if "drop" in name or name.endswith("_pdrop")
    )
