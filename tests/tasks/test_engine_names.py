"""What a model is called in the lineage: by its name before it is opened, whatever it is asked."""

from pathlib import Path

from backends.llm.scripted import Scripted
from backends.llm.transformers import Transformers
from tasks.engines import LazyLLM


def test_a_local_model_is_called_by_its_name_before_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert LazyLLM(Transformers(model="sprout")).name == "sprout"
    assert LazyLLM(Transformers(model=str(tmp_path / "mine"))).name == "mine"
    assert LazyLLM(Transformers(model="sprout", adapter=tmp_path / "mine")).name == "sprout+mine"


def test_an_engine_whose_identity_has_the_name_needs_none() -> None:
    assert LazyLLM(Scripted(default="yes")).name == ""
