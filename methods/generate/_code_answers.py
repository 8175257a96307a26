"""Solutions that bring their own tests: how such a reply is read, and which of many are too alike to keep two."""

import ast
import re
from dataclasses import dataclass

from methods.asking.execution import code_of
from methods.asking.parsing import Unparsed
from methods.texts.python_names import parsed_python

_TESTS = re.compile(r"(?<!\s)\s*<tests>\s*\n")
_BULLET = re.compile(r"[\s\-*\d.)]*+")
_PLACEHOLDERS = (
    "todo", "fixme", "write your code here", "your code here", "your code goes here", "notimplemented",
)  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """An answer as it is learned, and its tests as Python source."""

    text: str
    tests: str


@dataclass(frozen=True)
class Names:
    """Names of the functions and classes that code defines, lower case and without underscores."""

    functions: frozenset[str]
    classes: frozenset[str]


def read_concepts(text: str) -> list[str] | Unparsed:
    """The concepts of a comma-separated reply, each once, at most ten.

    >>> read_concepts("Recursion, memoization, recursion.")
    ['Recursion', 'memoization']
    """
    found: dict[str, str] = {}
    for part in re.split(r"[,\n]", text):
        concept = " ".join(_BULLET.sub("", part, count=1).split()).rstrip(" .")
        if concept and len(concept) <= 80:
            found.setdefault(concept.lower(), concept)
    return list(found.values())[:10] or Unparsed("it names no concept of at most 80 characters")


def read_solution(text: str) -> Solution | str:
    """The solution in a reply, or the reason why it is none: the published format filter, in its order."""
    parts = _TESTS.split(text.strip())
    if len(parts) != 2 or text.count("<tests>") != 1:
        return "no-single-tests-section"
    answer, tests = parts[0].strip(), parts[1].strip().removesuffix("</tests>").strip()
    if any(word in text.lower() for word in _PLACEHOLDERS):
        return "placeholder"
    source = code_of(tests) if "```" in tests else None
    if "```" not in answer or code_of(answer) is None or source is None:
        return "no-code-block"
    if "assert" not in source:
        return "no-assert"
    tree = parsed_python(source)
    if isinstance(tree, SyntaxError) or isinstance(parsed_python(code_of(answer) or ""), SyntaxError):
        return "syntax-error"
    defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    if all(isinstance(node, defining) for node in tree.body):
        return "tests-never-called"
    return Solution(answer, source)


def names_in(answer: str) -> Names:
    r"""What the code of an answer defines, at any depth.

    >>> names_in("def To_Do():\n    pass").functions
    frozenset({'todo'})
    """
    tree = parsed_python(code_of(answer) or "")
    nodes = [] if isinstance(tree, SyntaxError) else list(ast.walk(tree))

    def plain(*kinds: type[ast.AST]) -> frozenset[str]:
        return frozenset(str(getattr(n, "name", "")).lower().replace("_", "") for n in nodes if isinstance(n, kinds))

    return Names(plain(ast.FunctionDef, ast.AsyncFunctionDef), plain(ast.ClassDef))
