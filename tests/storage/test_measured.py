"""A measurement is made once per question and set of engines, by whoever is first, and survives the process."""

import pytest

from schemas.errors import CorruptStore
from storage.measured import Measured
from storage.store import Store


def test_the_first_result_is_kept_for_the_same_question_only(tmp_path) -> None:
    made = []

    def make(value: float):
        return lambda: made.append(value) or {"loss": value}

    once = Measured(Store.open(tmp_path / "store").disk, {"tune": {"model": "a"}})
    assert once({"weights": [0.5, 0.5]}, make(1.0)) == {"loss": 1.0}
    assert once({"weights": [0.5, 0.5]}, make(2.0)) == {"loss": 1.0}, "the first durable result wins"
    assert once({"weights": [0.4, 0.6]}, make(3.0)) == {"loss": 3.0}
    again = Measured(Store.open(tmp_path / "store").disk, {"tune": {"model": "a"}})
    assert again({"weights": [0.5, 0.5]}, make(4.0)) == {"loss": 1.0}
    other = Measured(Store.open(tmp_path / "store").disk, {"tune": {"model": "b"}})
    assert other({"weights": [0.5, 0.5]}, make(5.0)) == {"loss": 5.0}, "another engine is another question"
    assert made == [1.0, 3.0, 5.0]


def test_a_failed_measurement_leaves_nothing_behind(tmp_path) -> None:
    once = Measured(Store.open(tmp_path / "store").disk, {})

    def fail():
        raise RuntimeError("the proxy diverged")

    with pytest.raises(RuntimeError):
        once({"run": 1}, fail)
    assert once({"run": 1}, lambda: {"loss": 2.0}) == {"loss": 2.0}


def test_a_damaged_result_is_named(tmp_path) -> None:
    store = Store.open(tmp_path / "store")
    once = Measured(store.disk, {})
    once({"run": 1}, lambda: {"loss": 2.0})
    (path,) = (tmp_path / "store" / "measured").glob("*/*.json")
    path.write_text("{")
    with pytest.raises(CorruptStore, match="no stored measurement"):
        once({"run": 1}, lambda: {"loss": 3.0})
