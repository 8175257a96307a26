"""A folder of backends is a union: every public module's one config becomes a member, told apart by its ``backend`` tag."""

import importlib
import inspect
import pkgutil
from typing import Annotated, Any, Union, get_args

from pydantic import Field

from backends.base import BackendConfig


def backends_in(package: str) -> list[type[BackendConfig]]:
    """The config class of each public module in ``package`` that defines one, ordered by module name.

    A module without a config class is a helper. A module that does not import raises; two config classes in one file,
    a class whose ``backend`` tag is not one Literal, and two modules that claim one tag are errors at import.
    """
    found: dict[str, type[BackendConfig]] = {}
    for info in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda item: item.name):
        if info.name.startswith("_") or info.ispkg:
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        own = [
            thing
            for _, thing in inspect.getmembers(module, inspect.isclass)
            if issubclass(thing, BackendConfig) and thing.__module__ == module.__name__
        ]
        if not own:
            continue
        if len(own) > 1:
            raise TypeError(f"{module.__name__} defines {len(own)} backend configs; a backend is one class in one file")
        tag = tag_of(own[0])
        if tag in found:
            raise TypeError(f"{module.__name__} and {found[tag].__module__} both claim backend: {tag}")
        found[tag] = own[0]
    if not found:
        raise TypeError(f"{package} holds no backend")
    return list(found.values())


def tag_of(config: type[BackendConfig]) -> str:
    """The one word a recipe writes after ``backend:``."""
    annotation = config.model_fields["backend"].annotation if "backend" in config.model_fields else None
    words = get_args(annotation)
    if len(words) != 1 or not isinstance(words[0], str):
        raise TypeError(f"{config.__name__} needs a field `backend: Literal['its-tag'] = 'its-tag'`")
    return words[0]


def one_of(package: str) -> Any:
    """The discriminated union of the folder's configs, for pydantic fields."""
    members = backends_in(package)
    return Annotated[Union[tuple(members)], Field(discriminator="backend")]  # noqa: UP007  (built at run time)
