"""A folder is a union: the one class of each module becomes a member, told apart by its tag (``method:``, ``backend:``)."""

import importlib
import inspect
import pkgutil
from typing import Annotated, Any, TypeVar, Union, get_args

from pydantic import BaseModel, Field

M = TypeVar("M", bound=BaseModel)


def members_in(package: str, base: type[M], tag: str, *, helpers: bool = False) -> list[type[M]]:
    """The subclass of ``base`` that each public module of ``package`` defines, ordered by module name.

    Args:
        package: Dotted name of the folder.
        base: What a member is a subclass of.
        tag: The field that tells members apart; a member annotates it as a Literal of one word.
        helpers: Whether a module without a member is a helper; otherwise its name must begin with ``_``.

    A module that does not import raises; a module with too few or too many members, a member whose tag is not one
    Literal, and two modules that claim one tag are ``TypeError`` at import.

    """
    found: dict[str, type[M]] = {}
    for info in sorted(pkgutil.iter_modules(importlib.import_module(package).__path__), key=lambda item: item.name):
        if info.name.startswith("_") or info.ispkg:
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        own = [
            thing
            for _, thing in inspect.getmembers(module, inspect.isclass)
            if issubclass(thing, base) and thing.__module__ == module.__name__
        ]
        if not own and helpers:
            continue
        if len(own) != 1:
            raise TypeError(
                f"{module.__name__} defines {len(own)} {base.__name__}s; a {tag} is one class in one file "
                "(helpers go into a module whose name begins with '_')"
            )
        word = tag_of(own[0], tag)
        if word in found:
            raise TypeError(f"{module.__name__} and {found[word].__module__} both claim {tag}: {word}")
        found[word] = own[0]
    if not found:
        raise TypeError(f"{package} holds no {tag}")
    return list(found.values())


def tag_of(member: type[BaseModel], tag: str) -> str:
    """The one word a recipe writes after ``tag:`` for this member."""
    words = get_args(member.model_fields[tag].annotation) if tag in member.model_fields else ()
    if len(words) != 1 or not isinstance(words[0], str):
        raise TypeError(f"{member.__name__} needs a field `{tag}: Literal['its-tag'] = 'its-tag'`")
    return words[0]


def one_of(package: str, base: type[M], tag: str, *, helpers: bool = False) -> Any:
    """The discriminated union of the folder's members, for pydantic fields."""
    members = members_in(package, base, tag, helpers=helpers)
    return Annotated[Union[tuple(members)], Field(discriminator=tag)]  # noqa: UP007  (built at run time)
