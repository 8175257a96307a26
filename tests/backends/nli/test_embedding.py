"""The declared NLI substitute: cosines dressed as probabilities, and an identity that says so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from backends.config import AnyNLI
from backends.embed.hashing import Hashing
from backends.nli.embedding import EmbeddingNLI, EmbeddingNLIEngine
from schemas.recipe import BackendChoices


class Compass:
    """Unit vectors in the plane, by a text's angle in degrees; remembers what it embedded."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def identity(self):
        return {"backend": "compass"}

    def embed(self, texts):
        self.embedded += texts
        angles = np.deg2rad([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_entailment_is_the_cosine_and_contradiction_what_is_left_to_one() -> None:
    found = EmbeddingNLIEngine(Compass()).judge([("0", "60"), ("60", "0"), ("0", "180"), ("0", "90"), ("7", "7")])
    assert found == pytest.approx(np.array([[0.5, 0, 0.5], [0.5, 0, 0.5], [1, 0, 0], [1, 0, 0], [0, 0, 1]]), abs=1e-6)


def test_each_distinct_text_is_embedded_once_and_equal_texts_not_at_all() -> None:
    embedder = Compass()
    EmbeddingNLIEngine(embedder).judge([("0", "60"), ("60", "0"), ("9", "9"), ("0", "30")])
    assert embedder.embedded == ["0", "30", "60"]
    assert EmbeddingNLIEngine(embedder).judge([]).shape == (0, 3)


TEXTS = st.one_of(
    st.text(max_size=30), st.sampled_from(["", "\u200b", "مرحبا", "🙂🙃", "def f(x):\n    return x", "a" * 9000])
)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_rows_are_probabilities_and_do_not_depend_on_the_direction_whatever_the_text(pairs) -> None:
    nli = EmbeddingNLI(embed=Hashing()).open()
    found = nli.judge(pairs)
    assert np.allclose(found.sum(1), 1)
    assert ((found >= 0) & (found <= 1)).all()
    assert np.array_equal(found, nli.judge([(b, a) for a, b in pairs]))


def test_the_identity_says_that_it_is_a_substitute_and_names_the_embedder() -> None:
    known = EmbeddingNLI(embed=Hashing(dim=64)).identity()
    assert known["substitute"].startswith("cosine of embeddings instead of an NLI model")
    assert known["embed"] == Hashing(dim=64).identity()
    assert EmbeddingNLI(embed=Hashing(dim=64)).open().identity() == known
    assert EmbeddingNLI(embed=Hashing(dim=32)).identity() != known


def test_the_default_embedder_is_minilm_and_speed_settings_of_it_are_no_identity() -> None:
    made = TypeAdapter(AnyNLI).validate_python({"backend": "embedding"})
    slow = {"backend": "embedding", "embed": {"backend": "sentence-transformers", "batch_tokens": 512}}
    assert made.embed.model == "minilm"
    assert TypeAdapter(AnyNLI).validate_python(slow).identity() == made.identity()


def test_a_recipe_without_nli_gets_the_substitute_over_its_own_embedder() -> None:
    assert BackendChoices(embed=Hashing()).named("nli") == EmbeddingNLI(embed=Hashing())
    assert BackendChoices().named("nli") == EmbeddingNLI()
    own = EmbeddingNLI(embed=Hashing(dim=32))
    assert BackendChoices(embed=Hashing(), nli=own).named("nli") == own
