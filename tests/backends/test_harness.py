"""lm-evaluation-harness from the outside: what decides a result is in its identity, and what is missing is named."""

import sys
from pathlib import Path

import pytest

from backends.harness import Harness, HarnessRun, installed
from schemas.errors import BackendError, MissingExtra, UsageError


def environment(folder: Path) -> Path:
    """A virtual environment as far as its version is asked for."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "lib" / "python3.12" / "site-packages" / "lm_eval-0.4.99.dist-info").mkdir(parents=True)
    return folder


def task(folder: Path) -> Path:
    """A task file that includes another, names a data file and a function beside it."""
    (folder / "common.yaml").write_text("output_type: multiple_choice\n", "utf-8")
    (folder / "rows.jsonl").write_text('{"q": 1}\n', "utf-8")
    (folder / "utils.py").write_text("def shown(doc):\n    return doc\n", "utf-8")
    file = folder / "quiz.yaml"
    file.write_text(
        "include: common.yaml\ntask: quiz\ndoc_to_text: !function utils.shown\n"
        "dataset_kwargs: {data_files: {test: rows.jsonl}}\n",
        "utf-8",
    )
    return file


def identity(file: Path, **changes) -> str:
    return str(Harness(tasks=(str(file),), environment=file.parent / "env", **changes).identity())


def test_the_identity_follows_the_task_s_files_and_not_their_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        environment(tmp_path / name / "env")
    one, two = task(tmp_path / "a"), task(tmp_path / "b")
    assert identity(one) == identity(two)
    assert "0.4.99" in identity(one)
    assert str(tmp_path) not in identity(one), "no path of this machine"
    assert identity(one, batch_size=2, device="cpu", download=True) == identity(one), "speed is no identity"
    assert identity(one, limit=5) != identity(one)
    for name in ("common.yaml", "rows.jsonl", "utils.py"):
        before = identity(two)
        with (two.parent / name).open("a", encoding="utf-8") as file:
            file.write("# more\n" if name != "rows.jsonl" else '{"q": 2}\n')
        assert identity(two) != before, f"{name} decides the result"


def test_a_task_file_that_is_not_there_or_no_yaml_is_refused(tmp_path: Path) -> None:
    env = environment(tmp_path / "env")
    with pytest.raises(UsageError, match=r"missing\.yaml cannot be read: No such file"):
        Harness(tasks=(str(tmp_path / "missing.yaml"),), environment=env).identity()
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [", "utf-8")
    with pytest.raises(UsageError, match=r"bad\.yaml is no YAML"):
        Harness(tasks=(str(bad),), environment=env).identity()


def test_an_environment_without_the_harness_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"there is no lm-eval in the environment .*pip install lm-eval"):
        installed(tmp_path)
    with pytest.raises(MissingExtra):
        Harness(tasks=("arc_easy",), environment=tmp_path).open()


def test_a_harness_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    # this environment's python runs the program without site-packages of the test's own: no lm_eval, or no such job
    env = environment(tmp_path / "env")
    run = HarnessRun(Harness(tasks=("quiz",), environment=env))
    with pytest.raises(
        BackendError, match=r"ended with 1; it said: ValueError: no such task; `lm-eval ls tasks` lists"
    ):
        run._run([str(env / "bin" / "python"), "-I", "-c", "raise ValueError('no such task')"], tmp_path, None)
