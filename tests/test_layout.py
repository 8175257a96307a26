"""The tree keeps its shape: short files, empty package files, no flow that shadows a module."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.order import PLACES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("flows", "tasks", "schemas", "storage", "methods", "backends", "cli", "web")
UNIONS = {"generate", "filter", "dedup", "decontaminate", "rank", "select", "mix"}
FOLDERS = (*PACKAGES, "tests", "benchmarks")
HEAVY = {"torch", "vllm", "transformers", "sentence_transformers", "trl", "peft", "faiss"}


@pytest.mark.parametrize("top", FOLDERS)
def test_every_file_is_short_and_says_what_it_is_for(top: str) -> None:
    files = {path: path.read_text("utf-8") for path in sorted((ROOT / top).rglob("*.py"))}
    assert files
    assert not {path for path, text in files.items() if text.count("\n") > 400}, "more than 400 lines; split it by idea"
    silent = {path for path, text in files.items() if text.strip() and not ast.get_docstring(ast.parse(text))}
    assert not silent, "these do not say in their first line what they are for"


def test_files_that_begin_first_are_there() -> None:
    assert [path for path in PLACES if not (ROOT / path).is_file()] == []


def test_package_files_are_empty_or_a_union() -> None:
    for top in PACKAGES:
        for path in (ROOT / top).rglob("__init__.py"):
            if path.parent.name in UNIONS and path.parent.parent.name == "methods":
                assert "one_of" in path.read_text("utf-8")
            else:
                body = ast.parse(path.read_text("utf-8")).body
                allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
                assert all(isinstance(node, allowed) for node in body), f"{path} does work at import"


def test_no_flow_file_shadows_a_module_of_ours_or_of_the_standard_library() -> None:
    """Prefect leaves ``flows/`` on sys.path when a flow is loaded by path."""
    names = {p.stem for p in (ROOT / "flows").glob("*.py")} - {"__init__"}
    assert not names & (set(PACKAGES) | set(sys.stdlib_module_names))


def test_heavy_libraries_are_imported_only_where_they_are_used() -> None:
    """Measured in a fresh interpreter: importing every command and method loads no engine."""
    code = (
        "import sys, cli.main, cli.methods; cli.methods.all_methods(); import backends.config;"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_packages_that_run_are_ours() -> None:
    """Generic names such as ``tasks`` must not be somebody else's package of the same name."""
    for top in PACKAGES:
        module = __import__(top)
        assert Path(module.__file__ or module.__path__[0]).resolve().is_relative_to(ROOT)
