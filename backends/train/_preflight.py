"""What will this training run do with this dataset? Answered from the tokens that it trains on, before any step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from backends.train._rows import TrainRows
from backends.train._tokens import Pairs, Sequences, special_texts
from schemas.errors import GateClosed
from schemas.training import Training

_CHECKED = 20
_EDGES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


@dataclass(frozen=True)
class Preflight:
    """The report. Counts are of examples unless the name says tokens; fractions are 0 to 1.

    ``histogram`` maps "up to n tokens" to examples; of the ``round_trip_checked`` examples ``round_trip_equal`` teach
    exactly the assistant's words; ``control_texts`` are examples whose own words would become control tokens.
    """

    examples: int
    tokens: int
    learned_tokens: int
    longest_tokens: int
    histogram: Mapping[str, int]
    truncated: int
    without_loss: int
    without_loss_ids: tuple[str, ...]
    empty_turns: int
    control_texts: int
    round_trip_checked: int
    round_trip_equal: int
    steps: int
    steps_per_epoch: int
    packing_efficiency_fraction: float | None
    memory_bytes: Mapping[str, int]
    template: str
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Plain values, for training.json."""
        return asdict(self)


def report(
    training: Training,
    rows: TrainRows,
    made: Sequences | Pairs,
    tokenizer: Any,
    *,
    template: str,
    model_size: "ModelSize",
    noted: Sequence[str] = (),
) -> Preflight:
    """The report on tokenized rows; raises ``GateClosed`` where training would be waste or harm (see `refuse`).

    ``noted`` are warnings that are known beforehand, about model and machine.
    """
    lengths = made.lengths()
    cut = training.max_length
    learned = [_learned(made, i, cut) for i in range(len(rows))]
    idle = [i for i, count in enumerate(learned) if count == 0]
    checked, equal, example = round_trip(rows, made, tokenizer, training.loss_on)
    trained = len(rows) - len(idle)
    units = _packs(lengths, training) if training.packing != "none" else trained
    per_epoch = max(1, math.ceil(units / training.batch_examples)) if units else 0
    kept_tokens = sum(min(n, cut) for n in lengths)
    found = Preflight(
        examples=len(rows),
        tokens=sum(lengths),
        learned_tokens=sum(learned),
        longest_tokens=max(lengths, default=0),
        histogram=histogram(lengths),
        truncated=sum(n > cut for n in lengths),
        without_loss=len(idle),
        without_loss_ids=tuple(rows.ids[i] for i in idle[:20]),
        empty_turns=sum(_has_empty_turn(messages) for messages in rows.messages),
        control_texts=_control_texts(rows, tokenizer),
        round_trip_checked=checked,
        round_trip_equal=equal,
        steps=training.max_steps or math.ceil(per_epoch * training.epochs),
        steps_per_epoch=per_epoch,
        packing_efficiency_fraction=round(kept_tokens / (units * cut), 4)
        if training.packing != "none" and units
        else None,
        memory_bytes=memory(training, model_size, max((min(n, cut) for n in lengths), default=0)),
        template=template,
    )
    refuse(found, training, example)
    return _with_warnings(found, noted)


def refuse(found: Preflight, training: Training, example: str) -> None:
    """Raises ``GateClosed`` when no example would teach anything, or when a learned token is not the assistant's."""
    if not found.examples:
        raise GateClosed("the dataset has no example, so there is nothing to train on; look at `provender show`")
    if found.without_loss == found.examples:
        raise GateClosed(
            f"none of the {found.examples} examples has an answer within max_length {training.max_length} "
            f"({found.truncated} are cut, the longest has {found.longest_tokens} tokens); raise max_length"
        )
    if found.round_trip_equal < found.round_trip_checked:
        raise GateClosed(
            f"the loss mask is wrong in {found.round_trip_checked - found.round_trip_equal} of "
            f"{found.round_trip_checked} examples: {example}; set `chat_template: chatml` or give a template with generation marks"
        )


def _with_warnings(found: Preflight, noted: Sequence[str]) -> Preflight:
    said = list(noted)
    if found.truncated:
        said.append(f"{found.truncated} of {found.examples} examples are cut at the end")
    if found.without_loss:
        said.append(f"{found.without_loss} examples have no answer left to learn and are passed over")
    if found.empty_turns:
        said.append(f"{found.empty_turns} examples have an empty turn")
    if found.control_texts:
        said.append(f"{found.control_texts} examples contain the text of a control token of this model")
    return Preflight(**{**asdict(found), "warnings": tuple(said)})


def histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Examples per length class; class "64" holds lengths 33 to 64, and the last one everything beyond."""
    counts: dict[str, int] = {}
    for length in lengths:
        label = next((str(edge) for edge in _EDGES if length <= edge), f"over {_EDGES[-1]}")
        counts[label] = counts.get(label, 0) + 1
    order = [*(str(edge) for edge in _EDGES), f"over {_EDGES[-1]}"]
    return {label: counts[label] for label in order if label in counts}


def round_trip(rows: TrainRows, made: Sequences | Pairs, tokenizer: Any, loss_on: str) -> tuple[int, int, str]:
    """Do the learned tokens read as the assistant's words? (checked, equal, the first difference in words)

    Looks at 20 rows spread over the dataset. Beside the words only control tokens and white space may be learned.
    """
    if isinstance(made, Sequences) and loss_on == "all":
        return 0, 0, ""
    candidates = [i for i in range(len(rows)) if _wanted(rows, i, loss_on)]
    stride = max(1, len(candidates) // _CHECKED)
    chosen = candidates[::stride][:_CHECKED]
    equal, example = 0, ""
    for i in chosen:
        for ids, wanted in _learned_texts(rows, made, i, loss_on):
            got = tokenizer.decode(ids, skip_special_tokens=True)
            if _squeeze(got, tokenizer) != _squeeze(wanted, tokenizer):
                example = example or (
                    f"example {rows.ids[i]} should learn {wanted[:60]!a} but would learn {got[:60]!a}"
                )
                break
        else:
            equal += 1
    return len(chosen), equal, example


def _learned_texts(rows: TrainRows, made: Sequences | Pairs, i: int, loss_on: str) -> list[tuple[list[int], str]]:
    if isinstance(made, Pairs):
        worse = "".join(str(turn["content"]) for turn in rows.worse[i] or [])
        return [(made.chosen[i], str(rows.messages[i][-1]["content"])), (made.worse[i], worse)]
    ids = made.ids[i][made.mask[i].astype(bool)].tolist()
    return [(ids, _wanted(rows, i, loss_on))]


def _wanted(rows: TrainRows, i: int, loss_on: str) -> str:
    """The words that row i teaches; empty where it calls tools, whose rendering is the template's own business."""
    spoken = [turn for turn in rows.messages[i] if turn["role"] == "assistant"]
    if any("tool_calls" in turn or "reasoning_content" in turn or "thinking" in turn for turn in spoken):
        return ""
    return "".join(str(turn["content"]) for turn in (spoken[-1:] if loss_on == "last-turn" else spoken))


def _squeeze(text: str, tokenizer: Any) -> str:
    """The text without white space and control texts: a template may trim and frame, and must not drop or add words."""
    for token in special_texts(tokenizer):
        text = text.replace(token, "")
    return "".join(text.replace("<|im_end|>", "").split())


def _learned(made: Sequences | Pairs, i: int, cut: int) -> int:
    if isinstance(made, Sequences):
        return int(made.mask[i][1:cut].sum())  # the first token is never predicted
    room = cut - len(made.prompt[i])
    return max(0, min(room, len(made.chosen[i]))) + max(0, min(room, len(made.worse[i])))


def _has_empty_turn(messages: Sequence[Mapping[str, Any]]) -> bool:
    return not messages or any(not turn["content"] and "tool_calls" not in turn for turn in messages)


def _control_texts(rows: TrainRows, tokenizer: Any) -> int:
    """Rows whose own words would become control tokens: data that can end or open a turn by itself."""
    marks = special_texts(tokenizer)
    return sum(any(mark in str(turn["content"]) for turn in messages for mark in marks) for messages in rows.messages)


def _packs(lengths: Sequence[int], training: Training) -> int:
    """How many packs the lengths need: exact for ``wrapped``, first-fit decreasing (within one of TRL's) otherwise."""
    cut = training.max_length
    if training.packing == "wrapped":
        return math.ceil(sum(lengths) / cut)
    pieces = [
        piece for n in lengths for piece in (_split(n, cut) if training.packing == "bfd_split" else [min(n, cut)])
    ]
    free: dict[int, int] = {}  # free tokens → open packs with that much room
    packs = 0
    for piece in sorted(pieces, reverse=True):
        best = min((space for space, count in free.items() if space >= piece and count), default=None)
        if best is None:
            packs += 1
            best = cut
        else:
            free[best] -= 1
            if not free[best]:
                del free[best]
        if best - piece:
            free[best - piece] = free.get(best - piece, 0) + 1
    return packs


def _split(length: int, cut: int) -> list[int]:
    return [cut] * (length // cut) + ([length % cut] if length % cut else [])


@dataclass(frozen=True)
class ModelSize:
    """What memory depends on. ``weight_bytes`` is bytes per frozen weight (4 or 2; less, on average, where most are in
    4 bits), ``value_bytes`` those of a value that is computed with.
    """

    parameters: int
    trainable: int
    layers: int
    hidden: int
    vocabulary: int
    weight_bytes: float = 4.0
    value_bytes: int = 4
    micro_batch: int = 8
    checkpointing: bool = False


def memory(training: Training, size: ModelSize, longest_tokens: int) -> dict[str, int]:
    """A rough estimate of peak bytes, by cause: weights, optimizer (two fp32 moments and the gradient), activations.

    Activations: about 16 hidden-sized values per token and layer (1 with checkpointing), plus one row of logits per
    token. Within a factor of two of what small Llamas were seen to use; a plan, not a promise.
    """
    tokens = size.micro_batch * longest_tokens * (2 if training.method == "dpo" else 1)
    activations = tokens * size.layers * size.hidden * (1 if size.checkpointing else 16) * size.value_bytes
    logits = min(tokens, 4096) * size.vocabulary * 4 * 2
    reference = (
        int(size.parameters * size.weight_bytes) if training.method == "dpo" and training.adapter.kind == "full" else 0
    )
    parts = {
        "weights": int(size.parameters * size.weight_bytes) + reference,
        "optimizer": size.trainable * 12,
        "activations": activations + logits,
    }
    return {**parts, "total": sum(parts.values())}
