"""From what was typed to a config: a start value and ``field=value`` texts, every mistake at once."""

from typing import Any


def build(kind: Any, start: dict[str, Any], fields: list[str], what: str) -> Any:
    """A config from a start value and ``field=value`` texts; ``RecipeError`` with every mistake."""
    from pydantic import ValidationError

    from schemas.errors import RecipeError
    from schemas.recipe import mistakes_of, override

    document = {k: v for k, v in start.items() if v is not None}
    for text in fields:
        override(document, text)
    try:
        from pydantic import TypeAdapter

        return TypeAdapter(kind).validate_python(document)
    except ValidationError as error:
        raise RecipeError(what, mistakes_of(error)) from None


def method_of(stage: str, name: str, fields: list[str]) -> Any:
    """A stage's method by its tag, with ``field=value`` texts."""
    import importlib

    union = getattr(importlib.import_module(f"methods.{stage}"), f"Any{stage.capitalize()}")
    return build(union, {"method": name}, fields, f"{stage} {name}")
