"""A BERT whose sentence vector is the mean of its token vectors: what most small embedding models are."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.quiet import call_home_off, quiet_loading

_POOLINGS = ("cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def is_mean_pooled_bert(folder: str) -> bool:
    """Whether the folder holds exactly: BERT, mean pooling, perhaps normalization, and a fast tokenizer."""
    root = Path(folder)
    if not all((root / name).is_file() for name in ("modules.json", "config.json", "tokenizer.json")):
        return False
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in json.loads((root / "modules.json").read_text())]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return False
    pooling = json.loads((root / "1_Pooling" / "config.json").read_text())
    only_mean = pooling.get("pooling_mode_mean_tokens") is True and not any(
        pooling.get(f"pooling_mode_{other}") for other in _POOLINGS
    )
    bert = json.loads((root / "config.json").read_text()).get("model_type") == "bert"
    settings = root / "sentence_bert_config.json"
    lowered = settings.is_file() and json.loads(settings.read_text()).get("do_lower_case")
    return only_mean and bert and not lowered


class MeanPooled:
    """Tokenizes with the model's fast tokenizer, runs the BERT, averages, normalizes."""

    def __init__(
        self,
        folder: str,
        identity: Callable[[], Mapping[str, Any]],
        *,
        device: str,
        max_tokens: int | None,
        batch_tokens: int,
    ) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import BertModel

        call_home_off()
        self._identity = identity
        self.batch_tokens = batch_tokens
        self._torch = torch
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(wanted if device == "auto" else device)
        with quiet_loading():
            self._model = BertModel.from_pretrained(
                folder, add_pooling_layer=False, dtype=torch.float32, use_safetensors=True, local_files_only=True
            )
        self._model.to(self._device).eval()
        self._tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens or _limit(Path(folder), self._model.config))

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self._identity()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), dim)."""
        encoded = self._tokenizer.encode_batch([text.strip() for text in texts])
        ids = [item.ids for item in encoded]
        out = np.empty((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for batch in batches([len(row) for row in ids], self.batch_tokens):
            out[batch] = self._pooled([ids[i] for i in batch])
        return out

    def _pooled(self, rows: list[list[int]]) -> np.ndarray:
        torch = self._torch
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            weight = mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weight).sum(1) / weight.sum(1)
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


def _limit(folder: Path, config: Any) -> int:
    settings = folder / "sentence_bert_config.json"
    limit = json.loads(settings.read_text()).get("max_seq_length") if settings.is_file() else None
    return int(limit or config.max_position_embeddings)


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Positions in batches of like lengths, longest first, each at most ``batch_tokens`` padded (or one row)."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
