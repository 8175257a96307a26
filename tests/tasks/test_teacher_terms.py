"""The terms of a teacher go with everything it wrote, and the licence filter can refuse it."""

from pathlib import Path

from flows.curate import curate
from storage.store import Store
from tests.tasks.fakes_recipe import recipe


def test_terms_join_the_inherited_licence_and_a_filter_sees_them(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    terms = made.generate[0].model_copy(update={"license": "LicenseRef-Teacher-terms"})
    store = Store.open(tmp_path / "store")
    kept = store.pool(store.resolve(curate.fn(made.model_copy(update={"generate": (terms,)}), tmp_path / "store")))
    (version,) = [m for m in store.versions() if m.ref.stage == "generate"]
    written = store.pool(version.ref)["license"].unique().to_list()
    assert all(text.endswith("AND LicenseRef-Teacher-terms") for text in written)
    assert kept.height
    plain = recipe(tmp_path)
    again = Store.open(tmp_path / "store")
    curate.fn(plain, tmp_path / "store")
    refs = {m.ref for m in again.versions() if m.ref.stage == "generate"}
    assert len(refs) == 2, "other terms are another step; without any the identity is the old one"
