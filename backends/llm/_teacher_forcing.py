"""Log-probabilities of given tokens: one forward pass per batch, and a prompt that many completions share is read once.

A completion alone with its prompt is padded on the right, so that nothing leaks into its row. Completions that share a
prompt are scored from its key/value cache, as a decode loop would write them. Both give the same numbers, up to the last
bits of the matrix products, which differ with the shape of a batch (about 1e-6).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backends.llm._logits import logits_at, logprobs_of

#: Logits held at once; bounds memory whatever the vocabulary.
_MAX_LOGITS = 100_000_000
#: Tokens in one forward pass. On a CPU more do not fill it better, and fall out of its caches: with sprout on one core
#: 62-65 µs a token up to 4,000 tokens, 84-100 µs from 8,000 on.
_CPU_TOKENS, _TOKENS = 2_048, 16_384
#: Shorter prompts are not worth a cache.
_WORTH_SHARING = 16
#: Layers whose state is a key/value cache, which holds nothing of the padding before a prompt.
_ATTENTION = frozenset({"full_attention", "sliding_attention"})

Pair = tuple[list[int], list[int]]
Told = Callable[[int, list[float]], None]


def completion_logprobs(
    model: Any,
    pairs: Sequence[Pair],
    *,
    pad: int,
    batch_size: int,
    batch_tokens: int = 65_536,
    told: Told = lambda i, row: None,
) -> list[list[float]]:
    """Nats of each completion token given the prompt and the tokens before it, for (prompt ids, completion ids).

    Prompts are not empty, and prompt and completion together fit the context. Batches hold rows of similar length;
    ``told`` gets each row, by its place, when its batch is through.
    """
    import torch

    scores: list[list[float]] = [[] for _ in pairs]

    def known(i: int, row: list[float]) -> None:
        scores[i] = row
        told(i, row)

    limits = _Limits(
        batch_size,
        min(batch_tokens, _CPU_TOKENS if str(model.device) == "cpu" else _TOKENS),
        max(1, _MAX_LOGITS // int(model.config.get_text_config().vocab_size)),
    )
    alone, families = _families(pairs, batch_size, _keeps_all_in_a_cache(model))
    with torch.inference_mode():
        for batch in _batches([_Item.of(pairs, places) for places in families], limits):
            _score_families(model, [[(i, pairs[i]) for i in item.places] for item in batch], pad, known)
        for batch in _batches([_Item.of(pairs, [i]) for i in alone], limits):
            mine = [pairs[item.places[0]] for item in batch]
            for item, row in zip(batch, _forward(model, mine, pad), strict=True):
                known(item.places[0], row)
    return scores


def _families(pairs: Sequence[Pair], batch_size: int, sharing: bool) -> tuple[list[int], list[list[int]]]:
    """Places of completions that are scored alone, and of those that share a prompt, at most ``batch_size`` each."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    alone: list[int] = []
    for i, (prompt, completion) in enumerate(pairs):
        if not completion:
            continue
        if sharing and len(prompt) >= _WORTH_SHARING:
            by_prompt.setdefault(tuple(prompt), []).append(i)
        else:
            alone.append(i)
    families: list[list[int]] = []
    for places in by_prompt.values():
        for start in range(0, len(places), batch_size):
            part = places[start : start + batch_size]
            if len(part) > 1:
                families.append(part)
            else:
                alone += part
    return alone, families


@dataclass(frozen=True)
class _Item:
    """What is scored together: places in the list, tokens of its longest forward pass, and logits' positions."""

    places: Sequence[int]
    tokens: int
    scored: int

    @classmethod
    def of(cls, pairs: Sequence[Pair], places: Sequence[int]) -> "_Item":
        """A completion with its prompt, or the completions of one prompt."""
        prompt = len(pairs[places[0]][0])
        lengths = [len(pairs[i][1]) for i in places]
        tokens = prompt + lengths[0] if len(places) == 1 else max(prompt, max(lengths) * len(places))
        return cls(places, tokens, sum(lengths))


@dataclass(frozen=True)
class _Limits:
    """Of one batch."""

    rows: int
    tokens: int
    scored: int


def _batches(items: Sequence[_Item], limits: _Limits) -> Iterator[list[_Item]]:
    """Items of like lengths, longest first, as many as the limits allow, or one."""
    batch: list[_Item] = []
    rows = scored = 0
    for item in sorted(items, key=lambda item: -item.tokens):
        rows, scored = rows + len(item.places), scored + item.scored
        padded = (len(batch) + 1) * batch[0].tokens if batch else 0
        if batch and (rows > limits.rows or scored > limits.scored or padded > limits.tokens):
            yield batch
            batch, rows, scored = [], len(item.places), item.scored
        batch.append(item)
    if batch:
        yield batch


def _keeps_all_in_a_cache(model: Any) -> bool:
    """Whether a prompt can be read once for several completions: not where layers hold a state of another kind."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return not getattr(model, "_is_stateful", False) and set(kinds) <= _ATTENTION


def _forward(model: Any, pairs: Sequence[Pair], pad: int) -> list[list[float]]:
    """Whole rows, padded on the right."""
    import torch

    ids, mask = _padded([prompt + completion for prompt, completion in pairs], pad, model.device)
    places = [
        (row, column)
        for row, (prompt, completion) in enumerate(pairs)
        for column in range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    ]
    rows, columns = torch.tensor(places, device=model.device).T
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    scored = logprobs_of(logits_at(model, inputs, rows, columns), ids[rows, columns + 1])
    return [part.tolist() for part in scored.split([len(completion) for _, completion in pairs])]


def _score_families(model: Any, families: Sequence[Sequence[tuple[int, Pair]]], pad: int, known: Told) -> None:
    """Each prompt once, padded on the left; then every completion from its prompt's keys and values."""
    import torch
    from transformers import DynamicCache

    device = model.device
    prompts = [family[0][1][0] for family in families]
    members = [(home, i, completion) for home, family in enumerate(families) for i, (_, completion) in family]
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    cache = DynamicCache(config=model.config)
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}
    opening = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float()
    homes = torch.tensor([home for home, _, _ in members], device=device)
    begun = torch.tensor([completion[0] for _, _, completion in members], device=device)
    first = (opening[homes, begun] - opening.logsumexp(-1)[homes]).tolist()
    # the last token of a completion says nothing about another, so it is not read
    fed = [completion[:-1] or [pad] for _, _, completion in members]
    rest: dict[int, list[float]] = {}
    if any(len(completion) > 1 for _, _, completion in members):
        cache.batch_select_indices(homes)
        ids, more = _padded(fed, pad, device)
        whole = torch.cat([mask[homes], more], dim=1)
        ends = whole.sum(1, keepdim=True) - 1  # a padded place stands at its row's last: within the context
        inputs = {
            "input_ids": ids,
            "attention_mask": whole,
            "position_ids": (whole.cumsum(-1)[:, width:] - 1).clamp(max=ends),
            "past_key_values": cache,
            "use_cache": True,
        }
        places = [(row, column) for row, (_, _, c) in enumerate(members) for column in range(len(c) - 1)]
        rows, columns = torch.tensor(places, device=device).T
        targets = torch.tensor([token for _, _, c in members for token in c[1:]], device=device)
        scored = logprobs_of(logits_at(model, inputs, rows, columns), targets).tolist()
        found = iter(scored)
        rest = {row: [next(found) for _ in c[1:]] for row, (_, _, c) in enumerate(members)}
    for row, (_, i, _) in enumerate(members):
        known(i, [first[row], *rest.get(row, [])])


def _padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[Any, Any]:
    """Ids and mask of rows, filled up on the right."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
