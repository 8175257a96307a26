"""Embedders: unit vectors that mean something. The real MiniLM runs here; one module, so that torch is imported once."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.embed._mean_pooled import MeanPooled, batches, is_mean_pooled_bert
from backends.embed.distill_static import principal, rarity, refine, save, token_vectors
from backends.embed.hashing import Hashing
from backends.embed.sentence_transformers import PackagedModel, SentenceTransformers
from backends.embed.static import Static
from backends.protocols import Embedder
from backends.weights import minilm_folder, resolve
from schemas.errors import BackendError, UsageError

PAIRS = [
    ("Translate the sentence into French.", "Render this sentence in French."),
    ("Write a poem about the sea.", "Compose verses on the ocean."),
    ("Sort the list of numbers in ascending order.", "Order these integers from smallest to largest."),
    ("What is the capital of Japan?", "Name the capital city of Japan."),
    ("Fix the bug in this Python function.", "Debug the following Python code."),
    ("Summarize the article in one sentence.", "Give a one-sentence summary of the text."),
    ("How do I bake bread at home?", "Explain how to make homemade bread."),
    ("Classify the review as positive or negative.", "Decide whether the opinion is favorable or not."),
]
TEXTS = [text for pair in PAIRS for text in pair]


@pytest.fixture(scope="module")
def minilm():
    return SentenceTransformers().open()


# ---------------------------------------------------------------- hashing


@given(st.lists(st.text(max_size=40), max_size=8))
@settings(max_examples=60, deadline=None)
def test_hashing_gives_unit_rows_for_any_text(texts):
    rows = Hashing(dim=64).open().embed(texts)
    assert rows.shape == (len(texts), 64)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@given(st.permutations(TEXTS))
@settings(max_examples=10, deadline=None)
def test_a_vector_depends_on_its_own_text_alone(texts):
    engine = Hashing().open()
    for text, row in zip(texts, engine.embed(texts), strict=True):
        np.testing.assert_array_equal(row, engine.embed([text])[0])


def test_hashing_sees_shared_words_and_spellings_but_no_meaning():
    engine = Hashing(dim=4096).open()
    base, same, plural, other = engine.embed(
        ["Sort the numbers", "sort THE numbers!", "Sorting the number", "Paint a horse"]
    )
    assert base @ same == pytest.approx(1)  # case and punctuation are no features
    assert 0.4 < base @ plural < 0.95
    assert abs(base @ other) < 0.1


def test_hashing_is_the_same_in_every_process():
    """CRC-32 is not salted, unlike Python's own hash: worked out once, held here."""
    row = Hashing(dim=8, ngram=0).open().embed(["alpha beta beta"])[0]
    # crc32("alpha") = 0xb7a2b0d4 (even: negative) and crc32("beta") = 0x06afa2a7 (odd: positive)
    import zlib

    alpha, beta = zlib.crc32(b"alpha"), zlib.crc32(b"beta")
    expected = np.zeros(8, dtype=np.float32)
    expected[(alpha >> 1) % 8] += 1 if alpha & 1 else -1
    expected[(beta >> 1) % 8] += np.sqrt(2) if beta & 1 else -np.sqrt(2)
    np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-5)


# ---------------------------------------------------------------- static


def test_static_vectors_find_the_paraphrase_of_each_instruction():
    engine = Static().open()
    rows = engine.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    cosines = rows @ rows.T - 2 * np.eye(len(TEXTS))
    partner = [i ^ 1 for i in range(len(TEXTS))]
    assert np.mean(cosines.argmax(1) == partner) >= 0.8


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_static_gives_unit_rows_for_any_text(texts):
    rows = _static().embed(texts)
    assert rows.shape == (len(texts), 256)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)


@cache
def _static():
    return Static().open()


def test_static_chunks_do_not_change_a_vector(monkeypatch):
    whole = _static().embed(TEXTS)
    monkeypatch.setattr("backends.embed.static._CHUNK_TOKENS", 7)
    np.testing.assert_allclose(_static().embed(TEXTS), whole, atol=1e-6)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing of the kind")
    with pytest.raises(BackendError, match="is no table of static vectors"):
        Static(table=str(bad)).open()
    with pytest.raises(BackendError, match="there is no table at"):
        Static(table=str(tmp_path / "absent")).identity()


def test_principal_directions_keep_the_largest_variance_and_rare_tokens_weigh_more():
    rows = np.array([[3.0, 0.1, 0], [-3, 0.1, 0], [3, -0.1, 0], [-3, -0.1, 0]])
    kept = principal(rows, 1)
    np.testing.assert_allclose(np.abs(kept[:, 0]), 3, atol=1e-9)
    # p = 0.9 and 0.1: 0.001 / 0.901 and 0.001 / 0.101
    np.testing.assert_allclose(rarity(np.array([9.0, 1.0])), [0.001 / 0.901, 0.001 / 0.101])


# ---------------------------------------------------------------- MiniLM


@pytest.mark.engine
def test_our_minilm_equals_the_package_sentence_transformers(minilm):
    assert isinstance(minilm, MeanPooled)
    texts = [*TEXTS, "", "  spaces around  ", "word " * 500, "ÄÖÜ ß 日本語 🙂"]
    theirs = PackagedModel(SentenceTransformers(), resolve("minilm")).embed(texts)
    ours = minilm.embed(texts)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


@pytest.mark.engine
def test_minilm_order_and_batches_do_not_matter(minilm, monkeypatch):
    whole = minilm.embed(TEXTS)
    monkeypatch.setattr(minilm, "batch_tokens", 40)
    np.testing.assert_allclose(minilm.embed(TEXTS[::-1])[::-1], whole, atol=1e-5)


@pytest.mark.engine
def test_static_cosines_rank_pairs_as_minilm_does(minilm):
    """On shipped instructions, some of which it was distilled from: a regression check; `Static` has held-out figures."""
    with open(Path(__file__).parents[3] / "recipes" / "data" / "permissive_instructions.jsonl") as lines:
        texts = [json.loads(line)["instruction"] for _, line in zip(range(80), lines, strict=False)]
    upper = np.triu_indices(len(texts), 1)
    real = minilm.embed(texts)
    agreement = {}
    for name, engine in {"static": _static(), "hashing": Hashing().open()}.items():
        rows = engine.embed(texts)
        agreement[name] = spearman((real @ real.T)[upper], (rows @ rows.T)[upper])
    assert agreement["static"] > 0.6
    assert agreement["static"] > agreement["hashing"] + 0.1


@pytest.mark.engine
def test_a_tokens_vector_is_the_models_for_that_word_alone(minilm):
    vectors = token_vectors(
        minilm, minilm._tokenizer, [minilm._tokenizer.token_to_id(word) for word in ("sea", "ocean")]
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, minilm.embed(["sea", "ocean"]), atol=1e-5)


@pytest.mark.engine
def test_refinement_moves_token_vectors_until_averages_agree_with_the_target(tmp_path):
    """Six words in two topics. At the start all vectors are random; the target says which texts belong together."""
    rng = np.random.default_rng(0)
    words = ["[UNK]", "sea", "ocean", "wave", "code", "bug", "loop"]
    texts = [[1, 2], [2, 3], [1, 3], [4, 5], [5, 6], [4, 6]]
    target = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3, dtype=np.float32)
    table = rng.normal(size=(7, 8)).astype(np.float32) / np.sqrt(8)
    refined = refine(table, [np.array(row) for row in texts], target, steps=100, rng_seed=0, rate=0.03)
    output = tmp_path / "table.safetensors"
    save(refined, words, output)
    engine = Static(table=str(output)).open()
    sea, ocean, bug = engine.embed(["sea wave", "ocean", "bug"])
    assert sea @ ocean > 0.9
    assert sea @ bug < 0.3
    assert engine.identity() != Static().identity()


def spearman(a, b) -> float:
    ranks = [np.argsort(np.argsort(x)).astype(float) for x in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


# ---------------------------------------------------------------- configs


def test_identity_is_of_the_weights_not_of_the_path_and_ignores_speed(tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "modules.json", "tokenizer.json", "sentence_bert_config.json"):
        shutil.copy(minilm_folder() / name, copy / name)
    first = SentenceTransformers(model=str(copy)).identity()
    moved = tmp_path / "moved"
    shutil.copytree(copy, moved)
    assert SentenceTransformers(model=str(moved), batch_tokens=99, device="cpu").identity() == first
    assert str(tmp_path) not in json.dumps(first)
    (moved / "config.json").write_text("{}")
    assert SentenceTransformers(model=str(moved)).identity() != first
    assert SentenceTransformers(model=str(copy), max_tokens=64).identity() != first


def test_a_hub_model_needs_a_revision():
    with pytest.raises(UsageError, match="org/name@revision"):
        SentenceTransformers(model="sentence-transformers/all-mpnet-base-v2").identity()
    known = SentenceTransformers(model="org/name@0123abc").identity()
    assert (known["model"], known["revision"]) == ("org/name", "0123abc")


@pytest.mark.engine
def test_a_hub_model_that_is_not_here_is_not_fetched():
    with pytest.raises(BackendError, match="set `download: true` once"):
        SentenceTransformers(model="nobody/nothing@0123abc").open()


def test_only_plain_mean_pooling_takes_the_short_way(tmp_path):
    copy = tmp_path / "model"
    (copy / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"):
        shutil.copy(minilm_folder() / name, copy / name)
    assert is_mean_pooled_bert(str(copy))
    pooling = json.loads((copy / "1_Pooling/config.json").read_text())
    (copy / "1_Pooling/config.json").write_text(json.dumps({**pooling, "pooling_mode_cls_token": True}))
    assert not is_mean_pooled_bert(str(copy))


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_batches_cover_every_text_once_within_the_token_budget(lengths, budget):
    made = list(batches(lengths, budget))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


@pytest.mark.parametrize("config", [Hashing(), Static()], ids=["hashing", "static"])
def test_engines_keep_the_protocol(config):
    engine = config.open()
    assert isinstance(engine, Embedder)
    assert engine.identity() == config.identity()
    assert engine.embed([]).shape[0] == 0
