"""A program as a sequence of edits, each of which leaves a program that a linter passes: LintSeq's backward sampling."""

import io
import re
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from methods.texts.python_names import missing_names, parsed_python

#: What stands between two diffs of a training target.
SEPARATOR = "<|diff|>"

_HUNK = re.compile(r"@@ -(\d+),0 \+(\d+)(?:,(\d+))? @@")
_CLAUSES = frozenset({"elif", "else", "except", "finally"})


@dataclass(frozen=True)
class Statement:
    """One logical line of a program: its physical lines from 0 (``last`` included), its depth and its first word."""

    first: int
    last: int
    depth: int
    indent: int
    word: str
    opens: bool  # ends with a colon: its block follows


class Listing:
    """A program cut into statements, with the errors that it has as a whole; ``ValueError`` where it is not Python."""

    def __init__(self, source: str) -> None:
        self.lines = source.replace("\r\n", "\n").strip("\n").split("\n")
        tree = parsed_python("\n".join(self.lines))
        if isinstance(tree, SyntaxError):
            raise ValueError(f"line {tree.lineno}: {tree.msg}" if tree.lineno else str(tree.msg))
        self.statements = _statements("\n".join(self.lines) + "\n")
        self._of_line = {n: i for i, s in enumerate(self.statements) for n in range(s.first, s.last + 1)}
        self._head = _heads(self.statements)
        self.known = {(self._of_line[line - 1], name) for line, name in missing_names(tree)}

    def without(self, alive: set[int], gone: int) -> set[int]:
        """``alive`` statements less this one and its block."""
        depth = self.statements[gone].depth
        end = gone + 1
        while end < len(self.statements) and self.statements[end].depth > depth:
            end += 1
        return alive - set(range(gone, end))

    def mended(self, alive: set[int]) -> set[int]:
        """The largest part of ``alive`` that this reaches by deleting what is wrong, until nothing is."""
        while wrong := self._misplaced(alive) or self.faults(alive):
            for gone in wrong:
                alive = self.without(alive, gone)
        return alive

    def faults(self, alive: set[int]) -> set[int]:
        """Statements with errors that the whole program has not."""
        tree = parsed_python(self.text(alive))
        if isinstance(tree, SyntaxError):
            at = (tree.lineno or 1) - 1
            return {max((i for i in alive if self.statements[i].first <= at), default=min(alive))}
        errors = {(self._of_line[line - 1], name) for line, name in missing_names(tree)}
        return {i for i, _ in errors - self.known}

    def text(self, alive: set[int]) -> str:
        """The alive statements on their own lines, all other lines blank."""
        kept = {n for i in alive for n in range(self.statements[i].first, self.statements[i].last + 1)}
        return "\n".join(line if n in kept else "" for n, line in enumerate(self.lines))

    def _misplaced(self, alive: set[int]) -> set[int]:
        """Statements whose place in the grammar went: blocks without body, clauses without head, try alone."""
        wrong: set[int] = set()
        clauses: dict[int, set[str]] = {}
        for i in alive:
            if self.statements[i].word in _CLAUSES:
                clauses.setdefault(self._head[i], set()).add(self.statements[i].word)
        for i in alive:
            one = self.statements[i]
            if one.opens and not self._has_body(i, alive):
                wrong.add(i)
            if one.word in _CLAUSES or one.word == "@":
                head = self._head[i]
                orphan = head not in alive
                lone_else = one.word == "else" and self.statements[head].word == "try" and "except" not in clauses[head]
                if orphan or lone_else:
                    wrong.add(i)
            if one.word == "try" and not clauses.get(i, set()) & {"except", "finally"}:
                wrong.add(i)
        return wrong

    def _has_body(self, i: int, alive: set[int]) -> bool:
        depth = self.statements[i].depth
        for j in range(i + 1, len(self.statements)):
            if self.statements[j].depth <= depth:
                return False
            if j in alive:
                return True
        return False


def edits_of(
    program: Listing, rng: np.random.Generator, *, tab_width: int = 4, most: int = 512, lint: bool = True
) -> list[tuple[int, ...]]:
    """Lines (from 0) that each edit inserts, first edit first: every line of the program is in exactly one.

    Backward from the whole program: a statement is drawn with weight 1 at the margin and indent / ``tab_width`` inside,
    goes with its block, and with ``lint`` so does whatever is an error without it. After ``most`` edits the rest is one.
    """
    alive, left = set(range(len(program.statements))), set(range(len(program.lines)))
    backward: list[tuple[int, ...]] = []
    while alive:
        if len(backward) == most - 1:
            after: set[int] = set()
        else:
            candidates = sorted(alive)
            weights = np.array([max(program.statements[i].indent / tab_width, 0.0) or 1.0 for i in candidates])
            drawn = candidates[int(rng.choice(len(candidates), p=weights / weights.sum()))]
            after = program.without(alive, drawn)
            after = program.mended(after) if lint and after else after
        gone = _lines_of(program, alive - after, after) & left if after else left
        backward.append(tuple(sorted(gone)))
        alive, left = after, left - gone
    if left:  # a program of comments only
        backward.append(tuple(sorted(left)))
    return backward[::-1]


def states_of(program: Listing, edits: Sequence[Iterable[int]]) -> list[str]:
    """The program after 0, 1, … edits, each a text of its lines so far."""
    there: set[int] = set()
    states = [""]
    for edit in edits:
        there |= set(edit)
        states.append("\n".join(line for n, line in enumerate(program.lines) if n in there))
    return states


def diffs_of(program: Listing, edits: Sequence[Iterable[int]]) -> list[str]:
    r"""Each edit as a unified diff without context and without its header lines.

    >>> diffs_of(Listing("a = 1\nb = 2\nc = 3"), [(1,), (0, 2)])
    ['@@ -0,0 +1 @@\n+b = 2', '@@ -0,0 +1 @@\n+a = 1\n@@ -1,0 +3 @@\n+c = 3']
    """
    there: set[int] = set()
    diffs: list[str] = []
    for edit in edits:
        new = set(edit)
        after = sorted(there | new)
        lines: list[str] = []
        at = old = 0
        while at < len(after):
            if after[at] not in new:
                at, old = at + 1, old + 1
                continue
            run = at
            while run < len(after) and after[run] in new:
                run += 1
            count = "" if run - at == 1 else f",{run - at}"
            lines += [f"@@ -{old},0 +{at + 1}{count} @@", *(f"+{program.lines[n]}" for n in after[at:run])]
            at = run
        diffs.append("\n".join(lines))
        there |= new
    return diffs


def applied(diffs: Iterable[str]) -> str:
    r"""What the diffs make of an empty file; ``ValueError`` for a diff that does more than insert, or out of place.

    >>> applied(['@@ -0,0 +1 @@\n+b = 2', '@@ -0,0 +1 @@\n+a = 1\n@@ -1,0 +3 @@\n+c = 3'])
    'a = 1\nb = 2\nc = 3'
    """
    lines: list[str] = []
    for diff in diffs:
        rest = diff.split("\n")
        while rest:
            hunk = _HUNK.fullmatch(rest[0])
            count = int(hunk[3] or 1) if hunk else 0
            added = rest[1 : 1 + count]
            if not hunk or len(added) < count or not all(line.startswith("+") for line in added):
                raise ValueError(f"not a hunk that only inserts: {rest[0][:80]!r}")
            at = int(hunk[2]) - 1
            if not 0 <= at <= len(lines):
                raise ValueError(f"{rest[0]!r} inserts behind the end of {len(lines)} lines")
            lines[at:at] = [line[1:] for line in added]
            rest = rest[1 + count :]
    return "\n".join(lines)


def _lines_of(program: Listing, gone: set[int], after: set[int]) -> set[int]:
    """Physical lines of these statements, and what stands between statements of one block that went as a whole."""
    lines: set[int] = set()
    for i in gone:
        one = program.statements[i]
        lines |= set(range(one.first, one.last + 1))
        if one.opens:
            inner = [j for j in range(i + 1, len(program.statements)) if program.statements[j].depth > one.depth]
            block: list[int] = []
            for expected, j in enumerate(inner, start=i + 1):
                if j != expected:
                    break
                block.append(j)
            if block and not set(block) & after:
                lines |= set(range(one.first, program.statements[block[-1]].last + 1))
    return lines


def _statements(source: str) -> list[Statement]:
    found: list[Statement] = []
    depth, start, last, word = 0, None, "", ""
    indent = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.INDENT:
            depth += 1
        elif token.type == tokenize.DEDENT:
            depth -= 1
        elif token.type == tokenize.NEWLINE:
            if start is not None:
                found.append(Statement(start, token.start[0] - 1, depth, indent, word, last == ":"))
            start = None
        elif token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.ENDMARKER):
            if start is None:
                start, word = token.start[0] - 1, token.string
                blank = token.line[: token.start[1]]
                indent = len(blank.expandtabs(8))
            last = token.string
    return found


def _heads(statements: Sequence[Statement]) -> dict[int, int]:
    """For each clause the statement that it continues, for each decorator the one that it decorates."""
    heads: dict[int, int] = {}
    latest: dict[int, int] = {}
    waiting: dict[int, list[int]] = {}
    for i, one in enumerate(statements):
        if one.word == "@":
            waiting.setdefault(one.depth, []).append(i)
        elif one.word in _CLAUSES:
            heads[i] = latest[one.depth]
        else:
            latest[one.depth] = i
            for decorator in waiting.pop(one.depth, ()):
                heads[decorator] = i
    return heads
