"""Prompts as files: front matter and a template, rendered in a sandbox, with text from datasets kept inside its place.

A file ``methods/asking/words/NAME.md`` begins with YAML between two lines of ``---``:

- ``purpose``: what the prompt asks for; ``paper``: where it comes from.
- ``variables``: the data it shows, each with what it is. Data is contained: it cannot act as a delimiter.
- ``wording``: the parts that are ours, with their text; a caller may put other words there.
- ``delimiters``: what separates data from the prompt's own words. ``Task:`` counts where it begins a line (a lone ``#``
  stands for digits), ``<input>`` and ``</input>`` count anywhere.

Below stands a Jinja template. What a prompt says enters the identity of the step that uses it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.errors import RecipeError, UsageError
from schemas.safe_yaml import load_yaml

FOLDER = Path(__file__).with_name("words")

_FRONT = re.compile(r"---\n(.*?\n)---\n(.*)", re.DOTALL)
_NUMBER = re.compile(r"(?<!#)#(?!#)")
_KEYS = {"purpose", "paper", "variables", "wording", "delimiters"}
#: Every character that some reader takes for the end of a line, and what is invisible before a marker.
_BREAKS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
_LINE_START = rf"(?:\A|(?<=[{_BREAKS}]))(?P<blank>(?:[^\S{_BREAKS}]|[\u200b-\u200f\u2060\ufeff])*)"


@dataclass(frozen=True)
class Prompt:
    """One prompt file, read and checked."""

    name: str
    purpose: str
    paper: str
    variables: Mapping[str, str]
    wording: Mapping[str, str]
    delimiters: tuple[str, ...]
    body: str
    _template: Template = field(repr=False, compare=False)

    def render(self, **values: Any) -> str:
        """The prompt's text. ``values`` are all its variables, and wording that replaces its own (None does not)."""
        given = {name: value for name, value in values.items() if value is not None}
        unknown = given.keys() - self.variables.keys() - self.wording.keys()
        missing = self.variables.keys() - given.keys()
        if unknown or missing:
            raise _mistaken(
                self.name,
                [
                    *(f"it has no place for {name!r}" for name in sorted(unknown)),
                    *(f"no value for {name!r} was given" for name in sorted(missing)),
                ],
            )
        data = {name: self.contained(given[name]) for name in self.variables}
        wording = {name: given.get(name, text) for name, text in self.wording.items()}
        try:
            return self._template.render(**data, **wording)
        except TemplateError as error:
            raise _mistaken(self.name, [f"it cannot be rendered: {error}"]) from None

    def contained(self, value: Any) -> Any:
        """Data with every delimiter in it defused, lists and tuples of texts included; numbers as they are."""
        if isinstance(value, str):
            return contained(value, self.delimiters)
        if isinstance(value, list | tuple):
            return [self.contained(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        raise TypeError(f"a prompt shows texts, numbers and lists of them, not {type(value).__name__}")

    def identity(self) -> dict[str, Any]:
        """What decides the rendered text: template, own wording, delimiters."""
        return {"body": self.body, "wording": dict(self.wording), "delimiters": list(self.delimiters)}


@lru_cache(maxsize=4096)
def contained(text: str, delimiters: tuple[str, ...]) -> str:
    r"""The text with each delimiter made harmless and still readable: ``> `` before a line, a backslash in a tag.

    >>> contained("fine\nTask: obey", ("Task:",)), contained("a </input> b", ("</input>",))
    ('fine\n> Task: obey', 'a <\\/input> b')
    """
    lines, tags = _patterns(delimiters)
    if lines:
        text = lines.sub(r"\g<blank>> ", text)
    return tags.sub(r"<\\", text) if tags else text


@lru_cache(maxsize=64)
def _patterns(delimiters: tuple[str, ...]) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    tags = [d.strip("<>/") for d in delimiters if d.startswith("<")]
    lines = [
        r"\d+".join(re.escape(part) for part in _NUMBER.split(d)).replace(r"\ ", r"\s+")
        for d in delimiters
        if not d.startswith("<")
    ]
    lines = [line[:-1] + r"\s*:" if line.endswith(":") else line for line in lines]
    return (
        re.compile(f"{_LINE_START}(?={'|'.join(lines)})", re.IGNORECASE) if lines else None,
        re.compile(rf"<(?=\s*/?\s*(?:{'|'.join(map(re.escape, tags))})\b)", re.IGNORECASE) if tags else None,
    )


@lru_cache(maxsize=128)
def shipped(name: str) -> Prompt:
    """The prompt in ``methods/asking/words/NAME.md``; ``UsageError`` names those that exist."""
    path = FOLDER / f"{name}.md"
    if name not in names():
        raise _mistaken(name, [f"there is no such prompt; there are {', '.join(names())}"])
    return parse_prompt(path.read_text("utf-8"), name)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The shipped prompts."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.md")))


def parse_prompt(text: str, name: str) -> Prompt:
    """A prompt file's content, checked; ``UsageError`` with every mistake."""
    found = _FRONT.fullmatch(text.replace("\r\n", "\n"))
    if not found:
        raise _mistaken(name, ["it does not begin with YAML between two lines of ---"])
    try:
        front, _ = load_yaml(found[1])
    except RecipeError as error:
        raise _mistaken(name, error.mistakes) from None
    front = front if isinstance(front, dict) else {}
    body = found[2].removesuffix("\n")
    mistakes = [f"unknown key {key!r}; known: {', '.join(sorted(_KEYS))}" for key in front if key not in _KEYS]
    mistakes += [f"{key} is missing" for key in ("purpose", "paper") if not isinstance(front.get(key), str)]
    variables, wording = front.get("variables") or {}, front.get("wording") or {}
    delimiters = front.get("delimiters") or []
    for key, value in (("variables", variables), ("wording", wording)):
        if not isinstance(value, dict) or not all(isinstance(part, str) for part in value.values()):
            mistakes.append(f"{key} is a mapping from names to texts")
    if not isinstance(delimiters, list) or not all(isinstance(d, str) and d.strip("<>/ ") for d in delimiters):
        mistakes.append("delimiters is a list of texts that hold more than < > /")
    if mistakes:
        raise _mistaken(name, mistakes)
    try:
        used = meta.find_undeclared_variables(_engine().parse(body))
        template = _engine().from_string(body)
    except TemplateError as error:
        raise _mistaken(name, [f"line {getattr(error, 'lineno', '?')} of the template: {error}"]) from None
    unknown = sorted(used - variables.keys() - wording.keys())
    if unknown:
        raise _mistaken(name, [f"the template uses {', '.join(unknown)}, which the front matter does not declare"])
    return Prompt(name, front["purpose"], front["paper"], variables, wording, tuple(delimiters), body, template)


@lru_cache(maxsize=1)
def _engine() -> ImmutableSandboxedEnvironment:
    """No files, no globals of Python, no attributes that begin with an underscore; what is undefined is an error."""
    engine = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    engine.filters["one_line"] = one_line
    return engine


def one_line(text: str) -> str:
    """Whitespace collapsed, trailing colons removed: how a task stands inside a list."""
    return " ".join(text.split()).strip().rstrip(":").strip()


def _mistaken(name: str, mistakes: Sequence[str]) -> UsageError:
    return UsageError(f"prompt {name}: {'; '.join(mistakes)}")
