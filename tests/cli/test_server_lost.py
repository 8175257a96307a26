"""A Prefect server that goes away in the middle costs one line and an exit code, for finished steps are kept."""

from pathlib import Path

import httpx
import pytest

from tests.cli.inside import provender


def test_a_lost_server_is_one_line_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise httpx.ConnectError("[Errno 111] Connection refused")

    monkeypatch.setattr("cli.main.app", gone)
    done = provender("run", home=tmp_path)
    assert done.returncode == 5
    assert "the Prefect server went away" in done.stderr
    assert "finished steps are kept" in done.stderr
    assert "Traceback" not in done.stderr
