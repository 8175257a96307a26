"""An engine on the command line: a backend's name, a model, YAML or a file of it; each mistake with its way out."""

from pathlib import Path

import pytest

from cli.engine_named import USUAL, backends_of, backends_of_role, engine_named
from schemas.errors import RecipeError, UsageError


@pytest.mark.parametrize(
    ("role", "text", "means"),
    [
        ("embed", "static", {"backend": "static"}),
        ("embed", "hashing", {"backend": "hashing"}),
        ("embed", "minilm", {"backend": "sentence-transformers", "model": "minilm"}),
        ("embed", "{backend: hashing, dim: 64}", {"backend": "hashing", "dim": 64}),
        ("llm", "sprout", {"backend": "transformers", "model": "sprout"}),
        ("judge", "org/name@rev", {"backend": "transformers", "model": "org/name@rev"}),
    ],
)
def test_what_a_word_means(role: str, text: str, means: object) -> None:
    assert engine_named(role, text) == means


@pytest.mark.parametrize("role", USUAL)
def test_the_usual_backend_of_a_role_is_one_of_its_backends(role: str) -> None:
    assert USUAL[role] in backends_of_role(role)


def test_a_file_is_an_engine_or_a_recipe_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("backend: hashing\ndim: 64\n")
    (tmp_path / "keyed.yml").write_text("embed: {backend: static}\n")
    (tmp_path / "recipe.yaml").write_text("name: x\nbackends:\n  embed: {backend: static}\n")
    assert engine_named("embed", str(tmp_path / "one.yaml")) == {"backend": "hashing", "dim": 64}
    assert engine_named("embed", str(tmp_path / "keyed.yml")) == {"backend": "static"}
    assert engine_named("embed", str(tmp_path / "recipe.yaml")) == {"backend": "static"}
    chosen = backends_of(None, str(tmp_path / "one.yaml"))
    assert chosen.embed.model_dump()["dim"] == 64


def test_a_file_that_is_not_there_or_has_no_engine_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        engine_named("embed", str(tmp_path / "absent.yaml"))
    (tmp_path / "list.yaml").write_text("- static\n")
    with pytest.raises(UsageError, match=r"names no embed; it needs a line `backend:` \(hashing"):
        engine_named("embed", str(tmp_path / "list.yaml"))
    (tmp_path / "other.yaml").write_text("backends: {llm: {backend: transformers, model: sprout}}\n")
    with pytest.raises(UsageError, match="names no embed"):
        engine_named("embed", str(tmp_path / "other.yaml"))


def test_a_backend_without_its_model_is_a_mistake_of_the_engine_not_a_model_of_that_name() -> None:
    with pytest.raises(RecipeError, match="llm"):
        backends_of("openai", None)


def test_a_bare_address_is_answered_with_the_line_to_write() -> None:
    with pytest.raises(UsageError, match=r"does not say which model.*backend: openai, base_url.*127.0.0.1:8000/v1"):
        engine_named("llm", "http://127.0.0.1:8000/v1")
