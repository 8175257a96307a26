"""LintSeq: a program is learned as the edits that write it, each of which leaves code without errors."""

import ast
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.asking.execution import code_of
from methods.asking.projection import answered
from methods.generate._account import Account
from methods.generate._ledger import Pedigree
from methods.generate._pool import Given, given_of
from methods.keyed import drawn_seed, keyed_hashes
from methods.texts.edit_sequences import SEPARATOR, Listing, diffs_of, edits_of
from methods.texts.python_names import parsed_python
from schemas.method import Generated, GenerateMethod, Using


class LintSeq(GenerateMethod):
    """Replaces the Python program of each answer by a sequence of edits (diffs) that writes it from nothing.

    Backward from the whole program a statement is drawn and deleted with its block, then everything that is an error
    without it, until nothing is left; reversed, these are the edits. The answer becomes the diffs, without context lines,
    joined by ``<|diff|>``. Nothing runs and no model is asked. An answer without Python, or whose code does not compile,
    is refused. Comments come with the block they are in, or with the first edit.

    Departs from the published code: its linter is pylint, ours knows syntax, names without a value, and attributes of
    ``self`` that a class never gets, nothing else; a statement over several lines goes as one.

    Paper: Piterbarg, Pinto & Fergus 2024, https://arxiv.org/abs/2410.02749, section 3.
    """

    method: Literal["lintseq"] = "lintseq"

    paths: int = Field(1, ge=1, le=100, description="edit sequences per program; equal ones are refused")
    linter: bool = Field(True, description="false: the ablation, deletes without looking for errors")
    max_edits: int = Field(512, ge=1, description="longest sequence; what is left then is its first edit")
    max_lines: int = Field(1000, ge=1, description="longer programs are refused")
    tab_width: int = Field(4, ge=1, le=16, description="a line's weight in the draw is its indent over this")

    def generate(self, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> Generated:
        """``paths`` examples per seed with a program, in order of ids."""
        account = Account()
        seed = drawn_seed(rng)
        given = given_of(seeds, account, self.name)
        keys = keyed_hashes(pl.Series([one.id for one in given], dtype=pl.Binary), seed)
        for done, (one, key) in enumerate(zip(given, keys, strict=True), start=1):
            self._write(one, int(key), account)
            using.progress(done, len(given), f"{len(account.created)} edit sequences")
        return account.settled(seeds["id"], self._notes(account), self.name)

    def _write(self, one: Given, key: int, account: Account) -> None:
        """The edit sequences of one example, or why there are none."""
        code, reason, why = code_of(one.answer), "no-code", {}
        program = None
        if code is not None and ("```" in one.answer or does_something(code)):
            if len(code.split("\n")) > self.max_lines:
                reason, why = "too-long", {"lines": len(code.split("\n"))}
            else:
                try:
                    program = Listing(code)
                except ValueError as error:
                    reason, why = "syntax-error", {"error": str(error)[:200]}
        if program is None:
            account.refuse(one.answer, reason, Pedigree((one.id,), (), why))
            return
        seen: dict[str, int] = {}
        for path in range(self.paths):
            drawn = np.random.default_rng([key, path])
            edits = edits_of(program, drawn, tab_width=self.tab_width, most=self.max_edits, lint=self.linter)
            text = SEPARATOR.join(diffs_of(program, edits))
            told = {"path": path, "edits": len(edits), "lines": len(program.lines)}
            pedigree = Pedigree((one.id,), (), told)
            if SEPARATOR in code_text(program):
                account.refuse(one.answer, "holds-the-separator", pedigree)
                return
            if text in seen:
                account.refuse(text, "repeats-path", pedigree.and_then(same_as=seen[text]))
                continue
            seen[text] = path
            account.note("edits", len(edits))
            account.note("known_errors", len(program.known))
            account.create(answered(one.before, text), pedigree, tools=one.tools)

    def _notes(self, account: Account) -> Mapping[str, Any]:
        """How long sequences are, and how many programs had errors from the start."""
        had = account.figures.get("known_errors", [])
        return {
            "edits_per_sequence": account.mean("edits"),
            "programs_with_errors_of_their_own": sum(n > 0 for n in had),
        }


def does_something(code: str) -> bool:
    """Whether text that happens to be Python is a program, and not a word or a number that an answer consists of.

    >>> does_something("Paris"), does_something("print(1)")
    (False, True)
    """
    tree = parsed_python(code)
    doing = (ast.Call, ast.Assign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    return not isinstance(tree, SyntaxError) and any(isinstance(node, doing) for node in ast.walk(tree))


def code_text(program: Listing) -> str:
    """The program as it is learned."""
    return "\n".join(program.lines)
