"""Answers in a terminal: lines that fit, tables that give way, color only where somebody looks on and wants it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.paint import painted, width, wrapped
from cli.plain import table
from tests.seeded import Seeded, seeded

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    return seeded(tmp_path_factory.mktemp("store"))


def test_a_long_line_goes_on_under_where_its_words_began() -> None:
    step = "  filter@0123456789abcdef          Kept at filter by clear: " + "word " * 12
    first, *rest = wrapped(step, 60).splitlines()
    assert len(first) <= 60
    assert all(line.startswith(" " * 30) and len(line) <= 60 for line in rest)
    assert "".join(wrapped(step, 60).split()) == "".join(step.split())


def test_tables_and_pictures_are_left_as_they_are() -> None:
    picture = "clear score 0.1 " + "▁▂▃" * 40
    assert wrapped(picture, 60) == picture
    assert wrapped("short", 60) == "short"


def test_color_adds_nothing_but_its_own_escapes() -> None:
    text = "Dropped at filter by clear\n  filter@0123456789abcdef  Kept at filter\n██▒░ gate passed\n  + new\n  - old"
    told = painted(text)
    assert ESCAPES.sub("", told) == text
    assert "\x1b[31mDropped\x1b[0m" in told
    assert "\x1b[32mKept\x1b[0m" in told
    assert "\x1b[31m░\x1b[0m" in told


def test_a_pipe_is_plain_and_wide() -> None:
    assert width() == 120


def test_a_table_keeps_what_is_typed_again_and_fits_the_rest() -> None:
    told = table(("id", "text"), [("a" * 32, "b" * 200)], whole=(0,), width=60)
    assert "a" * 32 in told
    assert max(map(len, told.splitlines())) <= 60


@pytest.mark.parametrize(("color", "escapes"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_in_a_terminal_of_eighty_columns_every_line_fits(
    world: Seeded, tmp_path: Path, color: dict[str, str], escapes: bool
) -> None:
    """`show` and `trace` over a real pseudo-terminal of 80 columns."""
    code = (
        "from cli.main import app; "
        f"app(['show', 'support-bot', '--store', {str(world.store.root)!r}], standalone_mode=False); "
        f"app(['trace', {world.dolly[0]!r}, '--store', {str(world.store.root)!r}], standalone_mode=False)"
    )
    ours, theirs = pty.openpty()
    known = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    environment = {**known, "TERM": "xterm", "COLUMNS": "80", "PROVENDER_HOME": str(tmp_path), **color}
    with open(tmp_path / "errors", "wb") as errors:
        done = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=errors, env=environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert done.wait() == 0, (tmp_path / "errors").read_text()
    text = said.decode().replace("\r\n", "\n")
    assert bool(ESCAPES.search(text)) is escapes
    plain = ESCAPES.sub("", text)
    assert "Dropped at filter by clear" in " ".join(plain.split())
    too_long = [line for line in plain.splitlines() if len(line) > 80]
    assert not too_long, too_long
