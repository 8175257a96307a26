"""Prefect reads its settings when it is imported: every verb sets them first, or it calls home and misses the server of `up`."""

import ast
import os
import subprocess
import sys
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


def test_the_server_of_one_run_has_a_password_that_only_this_process_knows(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    words = "from cli.console import quiet_environment as q; import os; q(); q(); e = os.environ; "
    words += "print(e['PREFECT_SERVER_API_AUTH_STRING'], e['PREFECT_API_AUTH_STRING'], e['PREFECT_SERVER_CORS_ALLOWED_ORIGINS'])"
    words += "; from prefect.settings import get_current_settings as s; print(s().api.auth_string.get_secret_value())"
    said = [
        subprocess.run(
            [sys.executable, "-c", words], env=clean | {"PROVENDER_HOME": str(tmp_path), "HOME": str(tmp_path)},
            cwd=CLI.parent, capture_output=True, text=True, check=True,
        ).stdout.split()
        for _ in range(2)
    ]  # fmt: skip
    for server, client, origins, read in said:
        assert server == client == read
        assert origins != "*"
    assert said[0][0] != said[1][0]
