"""A Prefect server that goes away in the middle costs one line and an exit code, for finished steps are kept."""

import subprocess
import sys

CODE = """
import httpx
import cli.main as main

def gone():
    raise httpx.ConnectError("[Errno 111] Connection refused")

main.app = gone
main.main()
"""


def test_a_lost_server_is_one_line_with_the_way_out() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "the Prefect server went away" in done.stderr
    assert "finished steps are kept" in done.stderr
    assert "Traceback" not in done.stderr
