"""Names without a value are found, and nothing else is called an error."""

import ast

import pytest

from methods.texts.python_names import missing_names, parsed_python


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("print(x)", {(1, "x")}),
        ("print(x)\nx = 1", {(1, "x")}),
        ("def f():\n    return x\nx = 1", set()),
        ("def f():\n    total += 1\n    return total", {(2, "total"), (3, "total")}),
        ("def f():\n    total = 0\n    total += 1\n    return total", set()),
        ("n = 0\ndef f():\n    global n\n    n += 1", set()),
        ("def f():\n    global made\n    made = 1\ndef g():\n    return made", set()),
        ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g", set()),
        ("class A:\n    x = 1\n    def f(self):\n        return x", {(4, "x")}),
        ("class A:\n    x = 1\n    y = x", set()),
        ("print([i for i in range(3)], i)", {(1, "i")}),
        ("print([\n    a\n    for a in 'x'])", set()),
        ("if (n := 3) and [m := j for j in (1,)]:\n    print(n, m)", set()),
        ("from math import *\nprint(sqrt(2))", set()),
        ("import os.path as p, sys\nprint(p, sys)", set()),
        ("try:\n    pass\nexcept ValueError as e:\n    print(e)", set()),
        ("f = lambda a, *b, c=1, **d: (a, b, c, d, z)", {(1, "z")}),
        ("def f(a: T = D) -> R:\n    return a", {(1, "T"), (1, "D"), (1, "R")}),
        ("match 3:\n    case [a, *b]:\n        print(a, b)\n    case {'k': c, **d}:\n        print(c, d)", set()),
        ("class A:\n    def f(self):\n        return self.g() + self.h", {(3, ".g"), (3, ".h")}),
        ("class A:\n    def __init__(self):\n        self.h = 1\n    def g(self):\n        return self.h", set()),
        ("class A(B):\n    def f(self):\n        return self.g()", {(1, "B")}),
        ("@wraps\ndef f(): pass", {(1, "wraps")}),
        ("with open('x') as g:\n    print(g.read(), __name__)", set()),
    ],
)
def test_a_use_is_missing_when_no_scope_in_reach_binds_it(source: str, missing: set[tuple[int, str]]):
    assert missing_names(ast.parse(source)) == missing


@pytest.mark.parametrize("source", ["def f(:", "return 1", "x = '\0'", "(" * 5000 + ")" * 5000])
def test_what_the_compiler_refuses_is_an_error_value(source: str):
    assert isinstance(parsed_python(source), SyntaxError)
