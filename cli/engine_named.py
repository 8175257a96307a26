"""What ``--llm``, ``--embed``, ``--judge`` and ``--tune`` may say: a backend's name, a model, YAML, or a YAML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: The backend that is meant where only a model was named.
USUAL: Mapping[str, str] = {
    "llm": "transformers",
    "judge": "transformers",
    "embed": "sentence-transformers",
    "tune": "torch",
}
_FOLDERS: Mapping[str, str] = {"judge": "llm"}
#: The option that names what a method needs, with a shipped engine.
_EXAMPLES: Mapping[str, str] = {
    "llm": "--llm sprout",
    "student": "--llm sprout",
    "judge": "--judge sprout",
    "embed": "--embed static",
    "tune": "--tune sprout",
}


def engines_for(methods: Sequence[Any], **named: str | None) -> Any:
    """The engines that were named (``llm``, ``judge``, ``embed``, ``tune``), as a recipe's ``backends``.

    Raises ``UsageError`` for a method that needs one which was not, with the option to give.
    """
    from schemas.errors import UsageError

    chosen = backends_of(**named)
    for method in methods:
        for need in sorted(method.needs):
            if chosen.named(need) is None:
                option = _EXAMPLES[need]
                raise UsageError(
                    f"{method.name} needs {option.split()[0]}, as in `{option}`, which is shipped and small"
                )
    return chosen


def backends_of(
    llm: str | None = None, embed: str | None = None, judge: str | None = None, tune: str | None = None
) -> Any:
    """The engines that were named."""
    from cli.building import build
    from schemas.recipe import BackendChoices

    named = {"llm": llm, "judge": judge, "embed": embed, "tune": tune}
    chosen = {role: engine_named(role, text) for role, text in named.items() if text is not None}
    return build(BackendChoices, chosen, [], "backends")


def engine_named(role: str, text: str) -> dict[str, Any]:
    """The engine's mapping as a recipe would write it under ``backends: <role>:``.

    ``static`` (a backend) is ``{backend: static}``; ``engine.yaml`` is read: one engine, or a recipe whose ``backends``
    name one for this role; ``{backend: …}`` is YAML; anything else is a model for the usual backend. Raises
    ``UsageError`` for a file that is not there or has no such engine and for a bare address, ``RecipeError`` for broken
    YAML.
    """
    from schemas.errors import UsageError
    from schemas.safe_yaml import load_yaml

    if text.lower().endswith((".yaml", ".yml")):
        return _of_file(role, Path(text))
    if text.startswith(("http://", "https://")):
        raise UsageError(
            f"--{role} {text}: an address does not say which model; write "
            f"--{role} '{{backend: openai, base_url: \"{text}\", model: NAME}}' or put that into a YAML file"
        )
    if text in backends_of_role(role):
        return {"backend": text}
    value, _ = load_yaml(text, what=f"--{role}")
    return value if isinstance(value, dict) else {"backend": USUAL[role], "model": text}


def backends_of_role(role: str) -> tuple[str, ...]:
    """Names of the backends that can play a role."""
    from backends.base import BackendConfig
    from schemas.union import members_in, tag_of

    found = members_in(f"backends.{_FOLDERS.get(role, role)}", BackendConfig, "backend", helpers=True)
    return tuple(tag_of(one, "backend") for one in found)


def _of_file(role: str, path: Path) -> dict[str, Any]:
    from schemas.errors import UsageError
    from schemas.safe_yaml import load_yaml

    if not path.is_file():
        raise UsageError(f"--{role} {path}: there is no such file; give a YAML file, a backend or a model")
    value, _ = load_yaml(path)
    for key in ("backends", role):
        if isinstance(value, dict) and "backend" not in value and key in value:
            value = value[key]
    if not isinstance(value, dict) or "backend" not in value:
        choices = ", ".join(backends_of_role(role))
        raise UsageError(f"--{role} {path}: the file names no {role}; it needs a line `backend:` ({choices})")
    return value
