"""`provender methods`: what each field may hold is told, so that nobody has to guess a choice."""

from typing import Literal, get_args, get_origin

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.methods import all_methods, described

FIELDS = [
    (f"{stage}/{one.name}", name, field)
    for (stage, kind), one in zip(all_methods(), described(), strict=True)
    for name, field in kind.model_fields.items()
    if name != "method"
]


@pytest.mark.parametrize(
    ("method", "name", "choices"),
    [(m, n, get_args(f.annotation)) for m, n, f in FIELDS if get_origin(f.annotation) is Literal],
)
def test_every_choice_of_a_field_is_named(method: str, name: str, choices: tuple[str, ...]) -> None:
    (one,) = described(method)
    (said,) = (field.type for field in one.fields if field.name == name)
    assert said == " or ".join(map(str, choices))


def test_bounds_lists_maps_and_sub_fields_are_told() -> None:
    told = {(one.stage, one.name, field.name): field.type for one in described() for field in one.fields}
    assert told["filter", "clear", "threshold"] == "{quantile} or {value}"
    assert told["filter", "judge", "min_rating"] == "number, ≥ 0, ≤ 5"
    assert told["filter", "license", "allow"] == "list of text"
    assert told["decontaminate", "exact", "fields"] == "list of (prompt or answer)"
    assert told["filter", "judge", "draw"].startswith("{max_tokens, temperature, ")
    assert not [place for place, said in told.items() if "typing" in said or "<" in said.replace("<", "", 1)]


def test_the_command_shows_them() -> None:
    shown = CliRunner().invoke(app, ["methods", "dedup/exact"])
    assert "normalize: none or spacing or words = 'spacing'" in shown.output
