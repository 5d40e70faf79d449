r"""Mathematics in markdown: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]`` as MathML.

A dollar sign is a price more often than a formula, so pandoc's rule holds: the opening one has no
space after it, the closing one none before it and no digit after it. Text that is no LaTeX stays
as it was written.
"""

from __future__ import annotations

from typing import Any

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markupsafe import escape

LONGEST = 4_000
"""Characters of one formula."""
PAIRS = {"\\(": ("\\)", False), "\\[": ("\\]", True), "$$": ("$$", True), "$": ("$", False)}
"""Opening mark: (closing mark, whether the formula stands on a line of its own)."""


def add_mathematics(reader: MarkdownIt) -> None:
    """Teach a markdown reader formulas, inside a line and as blocks."""
    reader.inline.ruler.before("escape", "formula", _inline)
    reader.block.ruler.before(
        "fence", "formula", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    reader.add_render_rule("formula", _rendered)


def _inline(state: StateInline, silent: bool) -> bool:
    mark = next((m for m in PAIRS if state.src.startswith(m, state.pos)), "")
    if not mark:
        return False
    closing, display = PAIRS[mark]
    start = state.pos + len(mark)
    end = _closing(state.src, start, closing, state.posMax)
    if end < 0 or (mark == "$" and not _is_formula(state.src, start, end)):
        return False
    if not silent:
        _push(state, state.src[start:end], display)
    state.pos = end + len(closing)
    return True


def _closing(text: str, start: int, closing: str, most: int) -> int:
    """Where the formula ends, or -1; an escaped dollar does not end it."""
    end = text.find(closing, start, min(most, start + LONGEST))
    while end > 0 and closing[0] == "$" and text[end - 1] == "\\":
        end = text.find(closing, end + 1, min(most, start + LONGEST))
    return end if end > start else -1


def _is_formula(text: str, start: int, end: int) -> bool:
    after = text[end + 1 : end + 2]
    return not (text[start].isspace() or text[end - 1].isspace() or after.isdigit())


def _block(state: StateBlock, first: int, last: int, silent: bool) -> bool:
    r"""``$$`` or ``\[`` at the start of a line, up to its partner at the end of one."""
    line = _line(state, first)
    mark = next((m for m in ("$$", "\\[") if line.startswith(m)), "")
    if not mark or state.is_code_block(first):
        return False
    closing = PAIRS[mark][0]
    body, row = line[len(mark) :], first
    while not body.rstrip().endswith(closing):
        row += 1
        if row >= last or len(body) > LONGEST or not _line(state, row).strip():
            return False
        body += "\n" + _line(state, row)
    if not silent:
        _push(state, body.rstrip().removesuffix(closing), True)
        state.line = row + 1
    return True


def _line(state: StateBlock, row: int) -> str:
    return state.src[state.bMarks[row] + state.tShift[row] : state.eMarks[row]]


def _push(state: Any, latex: str, display: bool) -> None:
    token = state.push("formula", "math", 0)
    token.content, token.meta = latex, {"display": display}
    token.block = isinstance(state, StateBlock)


def _rendered(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    del self, options, env
    latex, display = tokens[index].content.strip(), tokens[index].meta["display"]
    try:
        made = convert(latex, display="block" if display else "inline")
    except Exception:  # whatever a converter raises on text that is not LaTeX
        return f'<code class="formula">{escape(latex)}</code>'
    return f'<div class="formula">{made}</div>' if tokens[index].block else made
