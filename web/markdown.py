"""A dataset card as HTML: the little of Markdown that cards are written in; everything is escaped, nothing is a link or an image.

Front matter and fenced blocks stay as they are; headings, tables, lists, paragraphs, ``code`` and **strong** become
elements. What this does not know stays text.
"""

import html
import re
from collections.abc import Sequence

from markupsafe import Markup

from web.pieces import visible

_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
_HEADING = re.compile(r"(#{1,6}) (.*)")
_ITEM = re.compile(r"[-*] (.*)")
_RULE = re.compile(r"\|[\s:|-]+\|")
_FIGURE = re.compile(r"[<>]?[-+]?[0-9][0-9,.]* ?%?")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+.!|<>-])")


def markdown(text: str, top: int = 2) -> Markup:
    """The card as elements; its first heading becomes an ``h<top>``."""
    lines = text.split("\n")
    told: list[Markup] = []
    at = 0
    if lines and lines[0] == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        told.append(Markup("<details><summary>Metadata (YAML front matter)</summary><pre>%s</pre></details>")
                    % visible("\n".join(lines[1:end])))  # fmt: skip
        at = end + 1
    while at < len(lines):
        block, at = _block(lines, at, top)
        if block:
            told.append(block)
    return Markup("\n").join(told)


def _block(lines: Sequence[str], at: int, top: int) -> tuple[Markup | None, int]:
    """The block that begins at a line, and where the next one begins."""
    line = lines[at]
    if not line.strip():
        return None, at + 1
    if line.startswith(("```", "~~~")):
        said = line.lstrip(line[0])
        mark = line.removesuffix(said)
        end = next((i for i in range(at + 1, len(lines)) if lines[i].rstrip() == mark), len(lines))
        language = Markup('<div class="note">%s</div>') % visible(said.strip()) if said.strip() else Markup("")
        return language + Markup("<pre>%s</pre>") % visible("\n".join(lines[at + 1 : end])), end + 1
    if found := _HEADING.fullmatch(line):
        level = min(top - 1 + len(found[1]), 6)
        return Markup(f"<h{level}>%s</h{level}>") % _inline(found[2]), at + 1
    if line.startswith("|"):
        end = next((i for i in range(at, len(lines)) if not lines[i].startswith("|")), len(lines))
        return _table(lines[at:end]), end
    if _ITEM.match(line):
        end = next((i for i in range(at, len(lines)) if not _ITEM.match(lines[i])), len(lines))
        items = (Markup("<li>%s</li>") % _inline(lines[i][2:]) for i in range(at, end))
        return Markup("<ul>%s</ul>") % Markup("").join(items), end
    end = next((i for i in range(at + 1, len(lines)) if not lines[i].strip() or _starts(lines[i])), len(lines))
    return Markup("<p>%s</p>") % _inline(" ".join(lines[at:end])), end


def _starts(line: str) -> bool:
    return bool(line.startswith(("|", "```", "~~~")) or _HEADING.fullmatch(line) or _ITEM.match(line))


def _table(lines: Sequence[str]) -> Markup:
    rows = [_cells(line) for line in lines if not _RULE.fullmatch(line.strip())]
    wide = max(map(len, rows), default=0)
    columns = [[row[at] for row in rows[1:] if at < len(row)] for at in range(wide)]
    right = [
        any(map(_FIGURE.fullmatch, some)) and all(_FIGURE.fullmatch(one) or not one for one in some) for some in columns
    ]
    head = _row("th", rows[0], right) if rows else Markup("")
    body = Markup("").join(Markup("<tr>%s</tr>") % _row("td", row, right) for row in rows[1:])
    return (
        Markup('<div class="scroll"><table class="sortable"><thead><tr>%s</tr></thead><tbody>%s</tbody></table></div>')
        % (head, body)
    )  # fmt: skip


def _row(tag: str, cells: Sequence[str], right: Sequence[bool]) -> Markup:
    told = ((' class="n"' if right[i] else "", _inline(cell)) for i, cell in enumerate(cells))
    return Markup("").join(Markup(f"<{tag}{class_}>%s</{tag}>") % inside for class_, inside in told)


def _cells(line: str) -> list[str]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inside)]


def _inline(text: str) -> Markup:
    told: list[Markup] = []
    at = 0
    for found in _INLINE.finditer(text):
        told.append(_plain(text[at : found.start()]))
        told.append(
            Markup("<code>%s</code>") % visible(found[1]) if found[1] else Markup("<b>%s</b>") % _plain(found[2])
        )
        at = found.end()
    told.append(_plain(text[at:]))
    return Markup("").join(told)


def _plain(text: str) -> Markup:
    """Text of a card as it is read: its entities and backslashes undone, then escaped again."""
    return visible(html.unescape(_ESCAPED.sub(r"\1", text)))
