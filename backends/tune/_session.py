"""One proxy model while it learns: tokens, batches of similar length, AdamW, losses and projected gradients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from math import ceil, cos, pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backends.cpu import threads_for
from backends.protocols import TokenLogprobs, Turn
from backends.quiet import call_home_off, quiet_loading
from backends.tune._adam import adam_direction
from backends.tune._chance import Chance, draws
from backends.tune._parts import parts_of
from schemas.errors import BackendError

if TYPE_CHECKING:
    from backends.tune.torch_loop import TorchTuner

#: Rows scored in one forward pass.
SCORED = 32

Pair = tuple[list[int], list[int]]  # ids before the answer, ids of the answer with its end of turn


class TorchTuning:
    """See ``backends.protocols.Tuning``."""

    def __init__(self, config: "TorchTuner", rng_seed: int) -> None:
        import torch

        from backends.llm._chat_tokens import ChatTokens
        from backends.llm.transformers import Transformers, load_model

        call_home_off()
        self.config = config
        self._chance = Chance(rng_seed, config.device)
        with self._chance.drawing(), quiet_loading():
            model, tokenizer = load_model(
                Transformers(model=config.model, device=config.device, download=config.download)
            )
            torch.manual_seed(rng_seed)
            self.model = _with_lora(model, config.lora_rank) if config.adapter == "lora" else model
        self._base, self._tokenizer = model, tokenizer
        self._chance.restart()
        if config.adapter == "full":
            self.model.requires_grad_(True)
        self._tokens = ChatTokens(tokenizer)
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or config.max_tokens
        self._room = min(config.max_tokens, int(limit))
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._tokens.end_of_turn
        self._rng_seed = rng_seed
        self._rng = np.random.default_rng(rng_seed)
        self._learned = [p for p in self.model.parameters() if p.requires_grad]
        self._first = [p.detach().clone() for p in self._learned]
        self._optimizer = self._fresh_optimizer()
        self.mean_rate = 0.0

    def learn(
        self,
        conversations: Sequence[Sequence[Turn]],
        *,
        weights: Sequence[float] | None = None,
        epochs: float = 1.0,
        keep_order: bool = False,
        part: tuple[int, int] = (0, 1),
    ) -> list[float]:
        """Train; the mean loss of each optimizer step. Raises ``BackendError`` where a conversation has no answer."""
        import torch

        if not conversations:
            raise BackendError("there is nothing to learn: 0 conversations were given to the tuner")
        pairs = [self._pair(c) for c in conversations]
        scale = [1.0] * len(pairs) if weights is None else [float(w) for w in weights]
        batches = list(self._batches(len(pairs), epochs, keep_order))
        history: list[float] = []
        number, parts = part
        rates = [
            self.config.learning_rate * self._rate(number * len(batches) + step, parts * len(batches))
            for step in range(len(batches))
        ]
        self.mean_rate = float(np.mean(rates))
        self.model.train()
        with self._threads():
            for rate, batch in zip(rates, batches, strict=True):
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                self._optimizer.zero_grad(set_to_none=True)
                total = 0.0
                for some in self._parts([pairs[i] for i in batch]):
                    rows = [batch[k] for k in some]
                    with self._chance.where_it_draws(self.model):
                        losses = self._answer_losses([pairs[i] for i in rows])
                    share = torch.tensor([scale[i] for i in rows], device=losses.device)
                    ((losses * share).sum() / len(batch)).backward()
                    total += float(losses.detach().sum())
                torch.nn.utils.clip_grad_norm_(self._learned, self.config.max_grad_norm)
                self._optimizer.step()
                history.append(total / len(batch))
        return history

    def losses(self, conversations: Sequence[Sequence[Turn]]) -> list[TokenLogprobs]:
        """Log-probabilities of the last assistant turn of each."""
        from backends.llm._teacher_forcing import completion_logprobs

        self.model.eval()
        pairs = [self._pair(c) for c in conversations]
        with self._threads():
            rows = completion_logprobs(self.model, pairs, pad=self._pad, batch_size=SCORED)
        return [TokenLogprobs(tuple(row)) for row in rows]

    def gradients(
        self, conversations: Sequence[Sequence[Turn]], *, dim: int, rng_seed: int, adam: bool = False
    ) -> np.ndarray:
        """Projected gradients, one conversation at a time."""
        from backends.tune._projection import Projection

        self.model.eval()
        found = np.zeros((len(conversations), dim), dtype=np.float32)
        with self._threads():
            projection = Projection([p.numel() for p in self._learned], dim, rng_seed)
            for row, conversation in enumerate(conversations):
                self.model.zero_grad(set_to_none=True)
                self._answer_losses([self._pair(conversation)]).mean().backward()
                found[row] = projection([self._direction(p, adam) for p in self._learned])
        self.model.zero_grad(set_to_none=True)
        return found

    def spectra(self, conversations: Sequence[Sequence[Turn]]) -> list[Mapping[str, tuple[np.ndarray, ...]]]:
        """See ``backends.protocols.Tuning``; one conversation at a time."""
        from backends.tune._spectra import attention_matrices, watched

        self.model.eval()
        found: list[Mapping[str, tuple[np.ndarray, ...]]] = []
        matrices = attention_matrices(self.model)
        with self._threads():
            for conversation in conversations:
                with watched(matrices) as spectra:
                    self._answer_losses([self._pair(conversation)]).mean().backward()
                    found.append(spectra())
                self.model.zero_grad(set_to_none=True)
        return found

    def reset(self) -> None:
        """Back to where the session began."""
        for parameter, first in zip(self._learned, self._first, strict=True):
            parameter.data.copy_(first)
        self._optimizer = self._fresh_optimizer()
        self._rng = np.random.default_rng(self._rng_seed)
        self._chance.restart()
        self.mean_rate = 0.0

    def save(self, folder: Path) -> None:
        """Weights (a LoRA update is merged in), tokenizer and template."""
        folder.mkdir(parents=True, exist_ok=True)
        model = self.model.merge_and_unload() if self.config.adapter == "lora" else self.model
        with quiet_loading():
            model.save_pretrained(str(folder), safe_serialization=True)
            self._tokenizer.save_pretrained(str(folder))

    def _fresh_optimizer(self) -> Any:
        import torch

        c = self.config
        return torch.optim.AdamW(
            self._learned, lr=c.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=c.weight_decay
        )

    def _pair(self, conversation: Sequence[Turn]) -> Pair:
        """Ids before and of the last answer; what is too long is cut at the front of the prompt, then at the answer's end."""
        if not conversation or conversation[-1].role != "assistant":
            raise BackendError("a conversation to learn ends with an assistant turn; filter the others out first")
        prompt = self._tokens.opening(tuple(conversation[:-1]))
        answer = self._tokens.completion(conversation[-1].content)[: self._room - 1]
        return prompt[-max(1, self._room - len(answer)) :], answer

    def _batches(self, rows: int, epochs: float, keep_order: bool) -> Iterator[list[int]]:
        """Rows of each optimizer step; a part of an epoch takes its first rows."""
        left = ceil(rows * epochs)
        size = self.config.batch_size
        while left > 0:
            order = list(range(rows)) if keep_order else self._rng.permutation(rows).tolist()
            order = order[:left]
            left -= len(order)
            for start in range(0, len(order), size):
                yield order[start : start + size]

    def _parts(self, pairs: Sequence[Pair]) -> list[list[int]]:
        """What goes through the model together: on a CPU rows of like lengths, unless their order decides what is drawn."""
        if self._base.device.type != "cpu" or draws(self.model):
            return [list(range(len(pairs)))]
        return parts_of([len(prompt) + len(answer) for prompt, answer in pairs])

    def _rate(self, step: int, steps: int) -> float:
        """Share of the peak learning rate."""
        warm = ceil(steps * self.config.warmup_fraction)
        if step < warm:
            return (step + 1) / warm
        gone = (step - warm) / max(1, steps - warm)
        return {"constant": 1.0, "linear": 1.0 - gone, "cosine": (1 + cos(pi * gone)) / 2}[self.config.schedule]

    def _answer_losses(self, pairs: Sequence[Pair]) -> Any:
        """Mean loss per answer token of each row, as a tensor that carries gradients."""
        import torch

        from backends.llm._logits import logits_at

        device = self._base.device
        rows = [prompt + answer for prompt, answer in pairs]
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._pad] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        places = [(i, k) for i, (p, a) in enumerate(pairs) for k in range(len(p) - 1, len(p) + len(a) - 1)]
        row, column = torch.tensor(places, device=device).T
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        logits = logits_at(self.model, inputs, row, column)
        losses = torch.nn.functional.cross_entropy(logits, ids[row, column + 1], reduction="none")
        lengths = torch.tensor([len(answer) for _, answer in pairs], device=device)
        return losses.new_zeros(len(pairs)).index_add(0, row, losses) / lengths

    def _direction(self, parameter: Any, adam: bool) -> np.ndarray:
        """The parameter's gradient, or the step Adam would take along it (LESS), flat, float32."""
        if parameter.grad is None:  # a weight this loss does not touch
            return np.zeros(parameter.numel(), dtype=np.float32)
        gradient = parameter.grad.detach().float()
        if adam:
            state = self._optimizer.state.get(parameter) or {"exp_avg": 0.0, "exp_avg_sq": 0.0}
            group = self._optimizer.param_groups[0]
            gradient = adam_direction(gradient, state["exp_avg"], state["exp_avg_sq"], group["betas"], group["eps"])
        return gradient.reshape(-1).float().cpu().numpy()

    def _threads(self) -> AbstractContextManager[None]:
        return threads_for(self._base, self.config.threads, str(self._base.device))


def _with_lora(model: Any, rank: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)
