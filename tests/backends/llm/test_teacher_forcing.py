"""Scoring in batches, from shared prompts and at chosen positions: the numbers of one plain forward pass per row."""

import random
from typing import Any

import pytest
import torch

from backends.llm._logits import logits_at
from backends.llm._teacher_forcing import completion_logprobs

pytestmark = pytest.mark.engine

VOCABULARY, CONTEXT, PAD = 50, 64, 0
SMALL = {"vocab_size": VOCABULARY, "pad_token_id": PAD}
LLAMA = {
    **SMALL, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": CONTEXT, "initializer_range": 0.5,
}  # fmt: skip


def model(kind: str) -> Any:
    """A tiny random model, where the kinds differ in positions, masks, caches, or what becomes of the logits."""
    import transformers as hf

    torch.manual_seed(1)
    made = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA)),
        "learned positions": lambda: hf.GPT2LMHeadModel(
            hf.GPT2Config(**SMALL, n_embd=16, n_layer=2, n_head=2, n_positions=CONTEXT, initializer_range=0.5)
        ),
        "sliding window": lambda: hf.MistralForCausalLM(hf.MistralConfig(**LLAMA, sliding_window=6)),
        "capped logits, mixed layers": lambda: hf.Gemma2ForCausalLM(
            hf.Gemma2Config(**LLAMA, sliding_window=6, final_logit_softcapping=2.0)
        ),
        "state without a cache": lambda: hf.MambaForCausalLM(
            hf.MambaConfig(**SMALL, hidden_size=16, state_size=4, num_hidden_layers=2, initializer_range=0.5)
        ),
    }
    return made[kind]().eval()


KINDS = ("llama", "learned positions", "sliding window", "capped logits, mixed layers", "state without a cache")


def tokens(chance: random.Random, n: int) -> list[int]:
    return [chance.randrange(1, VOCABULARY) for _ in range(n)]


def mixed() -> list[tuple[list[int], list[int]]]:
    """Long prompts with 1, 2, 5 and 9 completions, short prompts with several, no completion, one that fills the context."""
    chance = random.Random(4)
    pairs: list[tuple[list[int], list[int]]] = []
    for length, completions in ((20, 1), (31, 2), (40, 5), (17, 9), (3, 4), (50, 2)):
        prompt = tokens(chance, length)
        pairs += [(prompt, tokens(chance, chance.randint(1, 12))) for _ in range(completions)]
    pairs += [(tokens(chance, 25), []), (pairs[-1][0], tokens(chance, CONTEXT - 50)), (pairs[-1][0], [7])]
    chance.shuffle(pairs)
    return pairs


def plainly(model: Any, prompt: list[int], completion: list[int]) -> list[float]:
    with torch.inference_mode():
        chances = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
    return [float(chances[len(prompt) - 1 + k, token]) for k, token in enumerate(completion)]


def tokens_read(model: Any) -> list[int]:
    """Padded tokens of each forward pass by name of its input, from now on."""
    read: list[int] = []

    def note(_: Any, given: Any, named: dict[str, Any]) -> None:
        if "input_ids" in named:
            read.append(named["input_ids"].numel())

    model.register_forward_pre_hook(note, with_kwargs=True)
    return read


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limits", [(32, 65_536), (3, 65_536), (32, 100)], ids=["large", "few rows", "few tokens"])
def test_scores_are_those_of_one_plain_forward_pass_per_row(kind: str, limits: tuple[int, int]) -> None:
    one, pairs, told = model(kind), mixed(), dict[int, list[float]]()
    rows, batch_tokens = limits
    found = completion_logprobs(
        one, pairs, pad=PAD, batch_size=rows, batch_tokens=batch_tokens, told=lambda i, row: told.update({i: row})
    )
    for row, (prompt, completion) in zip(found, pairs, strict=True):
        assert row == pytest.approx(plainly(one, prompt, completion), abs=2e-5)
    assert told == {i: row for i, row in enumerate(found) if row}, "each scored row was told, an empty one not"


def test_a_prompt_that_completions_share_is_read_once() -> None:
    one = model("llama")
    read = tokens_read(one)
    prompt = list(range(1, 41))
    completion_logprobs(one, [(prompt, [first, 2, 3]) for first in (5, 6, 7, 8)], pad=PAD, batch_size=8)
    assert read == [40, 4 * 2], "the prompt, then of each completion all but its last token, which predicts nothing"


def test_one_token_completions_of_a_shared_prompt_need_the_prompt_alone() -> None:
    one = model("llama")
    read = tokens_read(one)
    prompt = list(range(1, 31))
    found = completion_logprobs(one, [(prompt, [5]), (prompt, [6])], pad=PAD, batch_size=8)
    assert read == [30]
    assert found == [pytest.approx(plainly(one, prompt, [token]), abs=2e-5) for token in (5, 6)]


def test_no_forward_pass_on_a_cpu_is_larger_than_fits_its_caches() -> None:
    one = model("llama")
    read = tokens_read(one)
    chance = random.Random(2)
    completion_logprobs(one, [(tokens(chance, 40), [1, 2]) for _ in range(200)], pad=PAD, batch_size=200)
    assert max(read) <= 2048
    assert len(read) == 5, "48 rows of 42 tokens at a time"


def test_logits_are_made_at_the_chosen_positions_alone() -> None:
    one, seen = model("capped logits, mixed layers"), list[int]()
    one.get_output_embeddings().register_forward_hook(lambda _, given, out: seen.append(out.shape[1]))
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    with torch.inference_mode():
        whole = one(ids).logits
        rows, columns = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
        chosen = logits_at(one, {"input_ids": ids}, rows, columns)
        again = one(ids).logits
    assert seen == [4, 3, 4]
    assert torch.allclose(chosen, whole[rows, columns], atol=1e-6)
    assert torch.equal(again, whole), "and afterwards the model is as it was"


def test_a_model_that_does_not_call_its_output_layer_still_gives_the_chosen_logits() -> None:
    class ByHand(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(10, 4)

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.table

        def forward(self, input_ids: torch.Tensor) -> Any:
            import types

            states = torch.nn.functional.one_hot(input_ids, 4).float()
            return types.SimpleNamespace(logits=states @ self.table.weight.T)

    one = ByHand()
    ids = torch.tensor([[0, 1, 2], [3, 2, 1]])
    found = logits_at(one, {"input_ids": ids}, torch.tensor([1]), torch.tensor([0]))
    assert torch.equal(found, one.table.weight[:, 3][None])
