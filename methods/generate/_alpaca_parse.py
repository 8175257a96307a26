"""From a completion to Alpaca's blocks of instruction, input and output: total, each drop with its reason."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from methods.generate._parse import Compat, Instance

_PARTS = ("Instruction", "Input", "Output")
_BLOCK = {"official": re.compile("###"), "fixed": re.compile(r"(?m)^[ \t]*###[ \t]*$|\A[ \t]*###")}
_ANY_NUMBER = re.compile(r"(?m)^[^\S\n]*+\d+\s?\.\s+(Instruction|Input|Output):")
_NO_INPUT = re.compile(r"<?\s*no\s?input\s*>?", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """One task of a batch, or the reason why it could not be read and the text."""

    instruction: str
    instance: Instance
    reason: str | None = None


def blocks(text: str, shown: int, *, cut_off: bool, compat: Compat = "fixed") -> list[Block]:
    r"""The tasks of a reply to a prompt that showed ``shown`` of them and ended with the number of the next.

    Official: block k must be numbered ``shown + k`` throughout, else it is lost. ``fixed`` reads any number at the start
    of a line, and a reply that repeats the beginning of its first block. ``cut_off`` refuses the last block, unless its end
    (``###``) was written.

    >>> blocks(" Greet.\n4. Input:\n<noinput>\n4. Output:\nHi!", 3, cut_off=False)
    [Block(instruction='Greet.', instance=Instance(given='', output='Hi!'), reason=None)]
    """
    first = f"{shown + 1}. Instruction:"
    if compat == "official" or not _ANY_NUMBER.match(text.lstrip().removeprefix("###").lstrip()):
        text = first + text
    found: list[Block] = []
    pieces = _BLOCK[compat].split(text)
    for place, piece in enumerate(pieces):
        if not piece.strip():
            continue
        number = shown + 1 + place
        marker = re.compile(rf"{number}\.\s+(Instruction|Input|Output):") if compat == "official" else _ANY_NUMBER
        found.append(_block(piece, marker.split(piece)))
    if cut_off and found and pieces[-1].strip():  # else the last one was through when the limit came
        last = found[-1]
        found[-1] = Block(last.instruction, last.instance, "cut-off")
    return found


def _block(piece: str, parts: Sequence[str]) -> Block:
    if len(parts) != 7 or tuple(parts[1::2]) != _PARTS:
        return Block(piece.strip(), Instance("", ""), "block-unparsed")
    instruction, given, output = (part.strip() for part in parts[2::2])
    return Block(instruction, Instance("" if _NO_INPUT.fullmatch(given) else given, output))
