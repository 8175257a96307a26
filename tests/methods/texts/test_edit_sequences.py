"""LintSeq's laws: the diffs reproduce the program, every state compiles and has no new error, each line comes once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.texts.edit_sequences import Listing, applied, diffs_of, edits_of, states_of
from methods.texts.python_names import missing_names, parsed_python

#: Fourteen lines, as the program of the published vectors has.
PROGRAM = '''import math

def area(radius):
    """The area of a circle."""
    if radius < 0:
        raise ValueError("negative")
    squared = radius ** 2
    result = math.pi * squared
    return result

# how large they are
radii = [1, 2]
for one in radii:
    print(area(one))'''

AWKWARD = """@staticmethod
def f(
    a,
    b=(1,
       2),
):
    try:
        x = '''
text that is
not indented'''
    except ValueError:
        x = 0
    else:
        x += 1
    finally:
        pass
    for i in b: print(i)
    else:
        print("done")
    return x; y = 2

class A:

    # a comment in the class
    def g(self):
        return self.h()

    def h(self):
        n = 0
        def inner():
            nonlocal n
            n += 1
        inner()
        return n

async def run(m):
    match m:
        case [a, *_]:
            return a
        case _:
            pass
    if m:
        return 1
    elif f:
        return 2
    else:
        return 3

# the end"""


def sequence(source: str, seed: int, **how) -> tuple[Listing, list[tuple[int, ...]]]:
    program = Listing(source)
    return program, edits_of(program, np.random.default_rng(seed), **how)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([PROGRAM, AWKWARD]), st.integers(0, 2**32))
def test_every_state_is_free_of_new_errors_and_the_diffs_lead_to_the_program(source: str, seed: int):
    program, edits = sequence(source, seed)
    assert sorted(line for edit in edits for line in edit) == list(range(len(program.lines)))
    assert all(edits)
    states = states_of(program, edits)
    assert states[0] == ""
    assert states[-1] == source
    known = {name for _, name in missing_names(parsed_python(source))}
    for state in states[1:]:
        tree = parsed_python(state)
        assert not isinstance(tree, SyntaxError), state
        assert {name for _, name in missing_names(tree)} <= known, state
    diffs = diffs_of(program, edits)
    assert len(diffs) == len(states) - 1
    for n in range(len(diffs) + 1):
        assert applied(diffs[:n]) == states[n]
    assert all(line[0] in "+@" for diff in diffs for line in diff.split("\n"))


def test_the_program_of_fourteen_lines_takes_several_edits_and_seeds_differ():
    program, _ = sequence(PROGRAM, 1)
    assert len(program.lines) == 14
    found = {tuple(sequence(PROGRAM, seed)[1]) for seed in range(20)}
    assert len(found) > 5
    assert all(2 <= len(edits) <= 9 for edits in found)


def test_what_uses_a_deleted_name_goes_with_it():
    program = Listing("a = 1\nb = a\nc = b\nd = 4")
    assert program.mended(program.without({0, 1, 2, 3}, 0)) == {3}
    assert program.mended(program.without({0, 1, 2, 3}, 2)) == {0, 1, 3}


@pytest.mark.parametrize(
    ("source", "gone", "left"),
    [
        ("if x:\n    pass\nelse:\n    y = 1\nx = 2", 0, {4}),  # an orphaned else goes with its block
        ("try:\n    a = 1\nexcept E:\n    b = 2\nc = 3", 2, {4}),  # a try alone is none
        ("try:\n    a = 1\nexcept E:\n    b = 2\nelse:\n    c = 3\nfinally:\n    d = 4", 2, {0, 1, 6, 7}),
        ("def f():\n    pass\nx = 1", 1, {2}),  # a header without its block
        ("@property\ndef f():\n    pass\nx = 1", 1, {3}),
        ("def f():\n    n = 0\n    def g():\n        nonlocal n\n        n = 1\n    return g", 1, {0, 2, 4, 5}),
    ],
)
def test_what_loses_its_place_in_the_grammar_goes_too(source: str, gone: int, left: set[int]):
    program = Listing(source)
    assert program.mended(program.without(set(range(len(program.statements))), gone)) == left


def test_errors_of_the_program_itself_are_no_reason_to_delete():
    program = Listing("print(missing)\nx = 1\nprint(x)")
    assert program.faults({0, 1, 2}) == set()
    assert program.faults({0, 2}) == {2}


def test_without_the_linter_only_the_drawn_block_goes():
    _, edits = sequence("a = 1\nb = a\nc = b", 3, lint=False)
    assert [len(edit) for edit in edits] == [1, 1, 1]


def test_at_the_greatest_depth_the_rest_is_the_first_edit():
    _, edits = sequence("\n".join(f"x{i} = {i}" for i in range(10)), 1, most=3)
    assert [len(edit) for edit in edits] == [8, 1, 1]


def test_inner_lines_are_drawn_more_often():
    source = "def f():\n        a = 1\nb = 2"
    last = [sequence(source, seed, tab_width=1)[1][-1] for seed in range(200)]
    assert sum(edit == (2,) for edit in last) < 40  # weights 1, 8, 1


def test_programs_of_comments_are_one_edit_and_no_python_is_an_error():
    _, edits = sequence("# only\n# words", 0)
    assert edits == [(0, 1)]
    with pytest.raises(ValueError, match="line 1: "):
        Listing("def f(:")


@pytest.mark.parametrize("diff", ["@@ -1 +1 @@\n-a", "@@ -0,0 +1,2 @@\n+a", "+a", "@@ -7,0 +8 @@\n+a"])
def test_diffs_that_do_not_insert_are_not_applied(diff: str):
    with pytest.raises(ValueError, match=r"only inserts|behind the end"):
        applied([diff])
