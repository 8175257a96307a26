"""Prefect reads its settings when it is imported: every verb sets them first, or it calls home and misses the server of `up`."""

import ast
from pathlib import Path

import pytest

CLI = Path(__file__).resolve().parent.parent.parent / "cli"
FUNCTIONS = [
    (path.name, node)
    for path in sorted(CLI.glob("*.py"))
    for node in ast.walk(ast.parse(path.read_text("utf-8")))
    if isinstance(node, ast.FunctionDef)
]
VERBS = [
    pytest.param(node, id=f"{name}:{node.name}")
    for name, node in FUNCTIONS
    if not node.name.startswith("_")
    and any(isinstance(part, ast.ImportFrom) and (part.module or "").startswith("flows") for part in ast.walk(node))
]


def test_there_are_as_many_verbs_with_a_flow_as_the_command_line_has() -> None:
    assert len(VERBS) >= 14


@pytest.mark.parametrize("verb", VERBS)
def test_settings_stand_before_a_flow_is_imported(verb: ast.FunctionDef) -> None:
    flow = min(
        part.lineno
        for part in ast.walk(verb)
        if isinstance(part, ast.ImportFrom) and (part.module or "").startswith("flows")
    )
    quiet = [
        part.lineno
        for part in ast.walk(verb)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "quiet_environment"
    ]
    assert quiet, f"{verb.name} imports a flow and never calls quiet_environment"
    assert min(quiet) < flow
