"""An evaluation says when the adapter learned over another base than the one it is measured over."""

import json
from pathlib import Path

from tasks.evaluate import TrainedWeights, _base_held_in, precision_notes


def test_what_was_trained_over_4_bits_and_measured_over_the_plain_base_is_said(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"base_held_in": "4 bits (NF4, double quantization)"}))
    weights = TrainedWeights(tmp_path, "sprout", adapter=True, base_held_in=_base_held_in(tmp_path))
    assert precision_notes(weights, "float32") == [
        "the adapter was trained over the base in 4 bits (NF4, double quantization) and measured over the base in float32"
    ]


def test_other_trainings_need_no_such_note(tmp_path: Path) -> None:
    assert _base_held_in(tmp_path) == ""  # another program trained: there is no record
    (tmp_path / "training.json").write_text('{"base_model": "sprout"}')
    assert _base_held_in(tmp_path) == ""
    (tmp_path / "training.json").write_text('{"base_')  # torn
    assert precision_notes(TrainedWeights(tmp_path, "sprout", True, _base_held_in(tmp_path)), "float32") == []
