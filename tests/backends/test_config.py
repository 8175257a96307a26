"""Backend configs: a folder is a union; what only decides the speed is no identity."""

import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ValidationError

from backends.base import BackendConfig, speed
from backends.config import AnyEmbed, AnyLLM, AnyTrain
from schemas.union import members_in


class Box(BaseModel):
    llm: AnyLLM | None = None
    embed: AnyEmbed | None = None
    train: AnyTrain | None = None


@pytest.mark.parametrize("tag", ["transformers", "openai", "vllm", "scripted"])
def test_each_llm_backend_is_chosen_by_its_tag(tag: str) -> None:
    fields = {"scripted": {"default": ""}}.get(tag, {"model": "m"})
    assert Box.model_validate({"llm": {"backend": tag, **fields}}).llm.backend == tag


def test_a_misspelt_backend_lists_the_choices() -> None:
    with pytest.raises(ValidationError, match=r"'openai'.*'scripted'.*'transformers'.*'vllm'"):
        Box.model_validate({"llm": {"backend": "opneai", "model": "m"}})


def test_an_unknown_field_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="temprature"):
        Box.model_validate({"llm": {"backend": "openai", "model": "m", "temprature": 1}})


def test_speed_settings_stay_out_of_the_identity() -> None:
    class Made(BackendConfig):
        backend: Literal["made"] = "made"
        model: str
        batch_size: int = speed(8, ge=1)

        def open(self) -> None:
            return None

    assert Made(model="m", batch_size=3).identity() == {"version": 1, "backend": "made", "model": "m"}
    with pytest.raises(ValidationError):
        Made(model="m", batch_size=0)


HEADER = '"""A backend."""\nfrom typing import Literal\nfrom backends.base import BackendConfig\n'


def member(name: str, tag: str) -> str:
    return f'class {name}(BackendConfig):\n    backend: Literal["{tag}"] = "{tag}"\n    def open(self): return 1\n'


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"a.py": member("A", "x"), "b.py": member("B", "x")}, "both claim backend: x"),
        ({"a.py": member("A", "x") + member("B", "y")}, "defines 2 BackendConfigs"),
        ({"a.py": "class A(BackendConfig):\n    backend: str = 'a'\n    def open(self): return 1\n"}, "Literal"),
        ({"a.py": "VALUE = 1\n"}, "holds no backend"),
    ],
)
def test_folders_that_are_no_union_fail_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], problem: str
) -> None:
    package = tmp_path / "made_backends"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in files.items():
        (package / name).write_text(HEADER + text)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        with pytest.raises(TypeError, match=problem):
            members_in("made_backends", BackendConfig, "backend", helpers=True)
    finally:
        for name in [name for name in sys.modules if name.startswith("made_backends")]:
            del sys.modules[name]
