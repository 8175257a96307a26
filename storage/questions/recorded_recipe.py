"""The recipe that a dataset recorded when it was tagged: what makes it again."""

from collections.abc import Mapping
from typing import Any

import yaml

from schemas.errors import MissingDataset
from schemas.lineage import DatasetRef
from storage.questions.show import tags_of
from storage.store import Store


def recorded_recipe(store: Store, version: DatasetRef | str) -> Mapping[str, Any]:
    """The recipe of ``name@vN``, of a tag's newest version or of the newest tag of a ref; ``MissingDataset`` if none is kept."""
    ref = store.resolve(version) if isinstance(version, str) else version
    tags = tags_of(store, ref)
    named = [tag for tag in tags if str(version) in (tag.name, f"{tag.name}@v{tag.number}")] or tags
    kept = [tag.recipe for tag in named if tag.recipe is not None]
    if not kept:
        raise MissingDataset(f"no recipe was recorded with {version}; `provender lineage {version}` shows its steps")
    return kept[-1]


def recipe_yaml(recipe: Mapping[str, Any] | None) -> str | None:
    """The recipe as YAML without what stands at null, as it was given; None for None."""
    if recipe is None:
        return None
    return yaml.safe_dump(_without_nulls(recipe), sort_keys=False, allow_unicode=True, width=100)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
