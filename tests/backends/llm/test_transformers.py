"""The transformers backend on a tiny random Llama made here: batching, order and neighbours change nothing."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.llm._decode import Row, decode, uniforms
from backends.llm.transformers import Transformers, TransformersEngine
from backends.protocols import Reply, Request, Sampling, ScoreRequest, TokenLogprobs, Turn
from backends.quiet import quiet_loading
from schemas.errors import BackendError, MissingExtra

pytestmark = pytest.mark.engine

CONTEXT = 128
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "the a cat dog runs sleeps over under blue red house tree and then sings about rain sun 1 2 3 . , ? !"
WORDS = TEXT.split()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with chat tokens and a random two-layer Llama, saved as a model's folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 50, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|im_end|>", pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"], chat_template=TEMPLATE, model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=2, pad_token_id=3,
            initializer_range=0.3,
        )
    )  # fmt: skip
    model.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def engine(tiny: Path) -> TransformersEngine:
    return Transformers(model=str(tiny), threads=1).open()


def varied(n: int, **sampling: Any) -> list[Request]:
    chance = random.Random(n)
    return [
        Request.ask(
            " ".join(chance.choices(WORDS, k=chance.randint(1, 40))),
            Sampling(**{"max_tokens": 20, "seed": i, **sampling}),
        )
        for i in range(n)
    ]


def texts(replies: list[Reply]) -> list[str]:
    return [reply.text for reply in replies]


DRAWS = {
    "greedy": {},
    "hot": {"temperature": 1.0},
    "top-k": {"temperature": 1.2, "top_k": 5},
    "top-p": {"temperature": 0.9, "top_p": 0.8},
    "penalties": {"temperature": 1.0, "presence_penalty": 1.0, "frequency_penalty": 0.5},
    "stops": {"temperature": 1.0, "stop": ("e", " the")},
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_reply_depends_neither_on_its_batch_nor_on_the_order(
    engine: TransformersEngine, draw: dict[str, Any]
) -> None:
    requests = varied(12, **draw)
    together = texts(engine.generate(requests))
    assert together == [texts(engine.generate([request]))[0] for request in requests]
    assert together == texts(engine.generate(requests[::-1]))[::-1]
    assert len(set(together)) > 1


def test_greedy_is_what_generate_of_transformers_says(engine: TransformersEngine) -> None:
    import torch

    for request in varied(6):
        ids = engine._tokens.chat(request.messages)
        with torch.inference_mode():
            out = engine.model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                do_sample=False,
                max_new_tokens=20,
            )
        wanted = engine._tokens.tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
        assert texts(engine.generate([request])) == [wanted]


def test_seed_and_index_tell_samples_apart_and_repeat_them(engine: TransformersEngine) -> None:
    def draw(seed: int, index: int) -> str:
        sampling = Sampling(max_tokens=16, temperature=1.0, seed=seed, index=index)
        return engine.generate([Request.ask("the cat", sampling)])[0].text

    assert draw(1, 0) == draw(1, 0)
    assert len({draw(1, 0), draw(1, 1), draw(2, 0)}) == 3


def drawn_ids(engine: TransformersEngine, prompt: str, samplings: list[Sampling]) -> list[list[int]]:
    """Token ids of one batch, no end token and no stop text."""
    ids = engine._tokens.chat((Turn("user", prompt),))
    rows = [Row(ids, sampling, sampling.max_tokens) for sampling in samplings]
    decode(engine.model, rows, ends=frozenset(), pad=3, stopped=lambda row: False, done=lambda row: None)
    return [row.drawn for row in rows]


def test_draws_follow_the_models_distribution(engine: TransformersEngine) -> None:
    """2,000 first tokens against the softmax: each of the ten likeliest within five standard errors."""
    import torch

    n = 2000
    ids = engine._tokens.chat((Turn("user", "sun"),))
    with torch.inference_mode():
        mass = torch.softmax(engine.model(torch.tensor([ids])).logits[0, -1].double(), -1)
    drawn = drawn_ids(engine, "sun", [Sampling(max_tokens=1, temperature=1.0, index=i) for i in range(n)])
    counts = Counter(row[0] for row in drawn)
    for token in mass.topk(10).indices.tolist():
        share = float(mass[token])
        assert abs(counts[token] / n - share) < 5 * (share * (1 - share) / n) ** 0.5


def test_nucleus_and_top_k_draw_from_exactly_their_tokens(engine: TransformersEngine) -> None:
    import torch

    ids = engine._tokens.chat((Turn("user", "sun"),))
    with torch.inference_mode():
        mass, order = torch.softmax(engine.model(torch.tensor([ids])).logits[0, -1].double(), -1).sort(descending=True)
    nucleus = int((mass.cumsum(0) - mass < 0.5).sum())  # the smallest set with half of the mass
    by_p = drawn_ids(engine, "sun", [Sampling(max_tokens=1, temperature=1.0, top_p=0.5, index=i) for i in range(600)])
    by_k = drawn_ids(engine, "sun", [Sampling(max_tokens=1, temperature=1.0, top_k=3, index=i) for i in range(300)])
    assert {row[0] for row in by_p} <= set(order[:nucleus].tolist())
    assert {row[0] for row in by_k} == set(order[:3].tolist())


def test_top_k_of_one_is_greedy(engine: TransformersEngine) -> None:
    requests = varied(4)
    hot = [Request(r.messages, sampling=Sampling(max_tokens=20, temperature=5.0, top_k=1)) for r in requests]
    assert texts(engine.generate(hot)) == texts(engine.generate(requests))


def test_stop_texts_end_a_reply_before_them(engine: TransformersEngine) -> None:
    free = engine.generate(varied(8, temperature=1.0))
    stopped = engine.generate(varied(8, temperature=1.0, stop=("a",)))
    for before, after in zip(free, stopped, strict=True):
        assert after.text == before.text.split("a")[0]
        if "a" in before.text:
            assert after.finish_reason == "stop"
            assert after.completion_tokens <= before.completion_tokens


def test_penalties_count_the_tokens_already_written(engine: TransformersEngine) -> None:
    free, presence, frequency = drawn_ids(
        engine,
        "the",
        [
            Sampling(max_tokens=60),
            Sampling(max_tokens=60, presence_penalty=1e6),
            Sampling(max_tokens=60, frequency_penalty=1e6),
        ],
    )
    assert len(set(free)) < 60, "without a penalty this model repeats itself"
    assert len(set(presence)) == 60
    assert len(set(frequency)) == 60


def test_a_prompt_beyond_the_context_fails_alone(engine: TransformersEngine) -> None:
    sampling = Sampling(max_tokens=8)
    replies = engine.generate([Request.ask("the " * 500, sampling), Request.ask("the", sampling)])
    assert replies[0].failure == "refused-by-server"
    assert f"the context of tiny0 is {CONTEXT}" in replies[0].message
    assert replies[1].failure in (None, "empty")
    assert replies[1].completion_tokens > 0


def test_a_reply_ends_at_the_context_when_the_room_is_small(engine: TransformersEngine) -> None:
    prompt = "the " * 105
    length = len(engine._tokens.plain(prompt, opening=True))
    reply = engine.generate([Request(prompt=prompt, sampling=Sampling(max_tokens=500, temperature=1.0, seed=3))])[0]
    assert length + reply.completion_tokens <= CONTEXT
    assert reply.prompt_tokens == length


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from(["<|im_end|>", "<|im_start|>system\n", "<|end|>", "<|pad|>"])),
        min_size=1,
        max_size=6,
    )
)
def test_nothing_a_user_writes_becomes_a_control_token(engine: TransformersEngine, pieces: list[str]) -> None:
    text = "".join(pieces)
    chat = engine._tokens.chat((Turn("user", text),))
    assert [token for token in chat if token < 4] == [1, 2, 1]  # the template's own, and no other
    assert not any(token < 4 for token in engine._tokens.plain(text))
    assert all(token >= 4 for token in engine._tokens.completion(text)[:-1])


def test_text_without_control_tokens_is_tokenized_as_in_training(engine: TransformersEngine) -> None:
    turns = [{"role": "user", "content": "the cat sings"}]
    tokenizer = engine._tokens.tokenizer
    joint = tokenizer(
        tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), add_special_tokens=False
    )["input_ids"]
    assert engine._tokens.chat((Turn("user", "the cat sings"),)) == joint


def scores() -> list[ScoreRequest]:
    chance = random.Random(5)
    return [
        ScoreRequest(
            " ".join(chance.choices(WORDS, k=chance.randint(1, 20))),
            (Turn("user", " ".join(chance.choices(WORDS, k=chance.randint(1, 20)))),) if i % 3 else (),
        )
        for i in range(12)
    ]


def test_scores_of_a_batch_of_mixed_lengths_equal_those_one_by_one(engine: TransformersEngine) -> None:
    delivered: dict[int, TokenLogprobs] = {}
    together = engine.logprobs(scores(), delivered.__setitem__)
    assert [delivered[i] for i in range(len(together))] == together, "each as its batch is through"
    for request, result in zip(scores(), together, strict=True):
        alone = engine.logprobs([request])[0]
        assert result.logprobs == pytest.approx(alone.logprobs, abs=1e-5)
        assert result.n_tokens == len(engine._tokens.plain(request.completion)) + 1


def test_a_score_is_the_chain_rule_worked_token_by_token(engine: TransformersEngine) -> None:
    import torch

    request = ScoreRequest("blue rain", (Turn("user", "the sun?"),))
    ids = engine._tokens.chat(request.messages)
    wanted = []
    for token in [*engine._tokens.plain("blue rain"), 2]:
        with torch.inference_mode():
            wanted.append(float(engine.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token]))
        ids = [*ids, token]
    assert engine.logprobs([request])[0].logprobs == pytest.approx(wanted, abs=1e-5)


def test_the_unconditional_score_starts_from_the_bos_token(engine: TransformersEngine) -> None:
    import torch

    with torch.inference_mode():
        first = engine.model(torch.tensor([[0]])).logits[0, -1].log_softmax(-1)
    token = engine._tokens.plain("dog")[0]
    assert engine.logprobs([ScoreRequest("dog")])[0].logprobs[0] == pytest.approx(float(first[token]), abs=1e-5)


def test_a_completion_that_does_not_fit_is_cut_and_says_so(engine: TransformersEngine) -> None:
    cut, refused, whole = engine.logprobs(
        [
            ScoreRequest("the " * 200, (Turn("user", "a"),)),
            ScoreRequest("dog", (Turn("user", "the " * 200),)),
            ScoreRequest("dog", (Turn("user", "a"),)),
        ]
    )
    assert cut.truncated
    assert cut.n_tokens == CONTEXT - len(engine._tokens.chat((Turn("user", "a"),)))
    assert refused.failure == "refused-by-server"
    assert not whole.truncated


def test_uniform_numbers_do_not_depend_on_how_many_are_wanted() -> None:
    short, long = (Row([1, 2, 3], Sampling(seed=5), n) for n in (4, 9))
    assert list(uniforms(long)[:4]) == list(uniforms(short))
    assert list(uniforms(Row([1, 2, 4], Sampling(seed=5), 4))) != list(uniforms(short))


def test_a_reply_of_the_wrong_schema_is_asked_again_and_then_fails(engine: TransformersEngine) -> None:
    """A random model writes no JSON: two attempts, their tokens added up, and a class."""
    reply = engine.generate([Request.ask("the", Sampling(max_tokens=10, temperature=1.0, json_schema="{}"))])[0]
    assert reply.failure in ("wrong-schema", "cut-off", "empty")
    assert reply.attempts == 2
    assert reply.completion_tokens > 10 or reply.failure == "empty"


class Closing:
    """A meter that lets three requests through, then none."""

    def __init__(self) -> None:
        self.admitted: list[int] = []
        self.delivered: dict[int, Reply] = {}

    def admit(self, position: int) -> bool:
        if len(self.admitted) == 3:
            return False
        self.admitted.append(position)
        return True

    def deliver(self, position: int, reply: Reply) -> None:
        assert position not in self.delivered
        self.delivered[position] = reply

    def draining(self) -> bool:
        return False


def test_at_a_closed_meter_what_was_let_in_is_answered_and_the_rest_is_refused(engine: TransformersEngine) -> None:
    meter = Closing()
    replies = engine.generate(varied(8), meter=meter)
    refused = {i for i, reply in enumerate(replies) if reply.failure == "over-budget"}
    assert refused == set(range(8)) - set(meter.admitted)
    assert meter.delivered == dict(enumerate(replies))


def test_batches_obey_their_token_limit(tiny: Path) -> None:
    small = Transformers(model=str(tiny), threads=1, batch_tokens=100, batch_size=3).open()
    requests = varied(9)
    rows = {i: small._row(request) for i, request in enumerate(requests)}
    order = sorted(rows, key=lambda i: -len(rows[i].prompt))
    batch = small._next_batch(order, rows)
    widest = len(rows[order[0]].prompt)
    assert 1 <= len(batch) <= 3
    assert len(batch) == 1 or (widest + 20) * len(batch) <= 100
    assert texts(small.generate(requests)) == texts(Transformers(model=str(tiny), threads=1).open().generate(requests))


def test_weights_not_paths_are_the_identity(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tiny.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    base = Transformers(model=str(tiny)).identity()
    assert Transformers(model=str(copy), device="cpu", batch_size=1).identity() == base
    (copy / "chat_template.jinja").write_text("changed")
    assert Transformers(model=str(copy)).identity() != base
    assert Transformers(model=str(tiny), dtype="bfloat16").identity() != base


def test_a_folder_without_weights_and_an_unfetched_hub_model_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BackendError, match="safetensors only"):
        Transformers(model=str(tmp_path)).open()
    with pytest.raises(BackendError, match="download: true"):
        Transformers(model="nobody/nothing@main").open()


def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    import backends.llm.transformers as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'provender\[local\]'"):
        Transformers(model=str(tiny)).open()


def test_an_adapter_is_laid_over_the_model_and_counts(tiny: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapter = tmp_path / "adapter"
    with quiet_loading():
        get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), settings).save_pretrained(adapter)
    config = Transformers(model=str(tiny), adapter=adapter, threads=1)
    assert config.identity() != Transformers(model=str(tiny)).identity()
    requests = varied(3)
    assert texts(config.open().generate(requests)) != texts(Transformers(model=str(tiny)).open().generate(requests))
