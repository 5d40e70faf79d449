"""The final answer of a text: its last box, the formula behind its last mark, or its last one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from backflip.data.references import BOX, boxed
from backflip.reward.verifiers.notation import is_words, unlabelled

__all__ = ["CONDITION", "JOINED", "boxes", "final_formula"]

LONGEST = 20_000
"""Characters behind a mark that are read."""
MARKS = 30
"""Marks that are tried, from the last one."""
JOINED = re.compile(r"\s*(?:[,;]\s*(?:and|or)?|\b(?:and(?:/or)?|or))\b\s*|\s*[,;]\s*")
"""Signs and words between the members of a list."""
CONDITION = re.compile(
    r"\b(?:if|for|when|whenever|where|unless|otherwise|provided|as long as|given|else)\b"
)
"""Words that begin a condition."""
MARK = re.compile(
    r"(?P<line>(?:^|\n)[ \t*]*(?:####|A:))|(?P<tag><\w*answer>)|(?<![</\w])(?i:answers?)(?![\w>])"
)
COPULA = re.compile(
    r"[\s*:_=}\"'`]*(?:\((?:in|to|as)\b[^()\n]{0,60}\)\s*)?"
    r"(?:(?:to|of|for|in)\s[^.\n]{0,80}?\s(?=is\b|are\b|=|:))?"
    r"(?P<verb>(?:is|are|was|were|equals?|(?:would|should|must|will|has to) be|comes? to)\b)?"
    r"[\s:=*]*"
)
DENIED = re.compile(r"\s*(?:(?:is|was|are|were|can|could|would|should|does|did)\s*n[o']t|cannot)\b")
HEDGE = re.compile(
    r"[.?!,;]?\s*\(?\s*\b(?:(?:[Oo]r|either)\b,?(?:\s+(?:it|the|answer|is|could|might|may|be|else|even|just"
    r"|rather|also)\b)+|(?:[Oo]r,?\s+)?(?:[Mm]aybe|[Pp]erhaps|[Pp]ossibly|[Aa]lternatively)\b"
    r"|[Oo]r\b),?"
    r"|(?<=\d)\s+(?:to|through)\s+(?=\d)"
)
"""Words that put another answer beside one."""
DOLLARS = r"\$\$.+?\$\$|\$(?=\S)[^$\n]+?(?<!\s)\$(?!\d)|\\begin\{.+?\\end\{\w+\*?\}"
SENTENCE = re.compile(rf"(?:{DOLLARS}|.)*?(?=[.!?](?:[\s*\"')]|[A-Z]|$)|\n|</|\Z)", re.DOTALL)
TOKEN = re.compile(
    rf"(?P<formula>{DOLLARS})|(?P<join>\b(?:and/or|and|or)\b)"
    r"|(?P<text>\\(?:text|mathrm|mbox|textbf|mathbf|operatorname|pmod)\s*\{[^{}]*\})"
    r"|(?P<command>\\[A-Za-z]+|\\.)|(?P<number>\d+(?:[.,]\d+)*|\.\d+)"
    r"|(?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)|(?P<stop>[.?:](?=\s|$)|\n\s*)|(?P<sign>\S)",
    re.DOTALL,
)
NAMES = frozenset(
    ["pi", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "inf", "mod"]
)
EDGES = " \t\n*_\"'`.,;:=~|<>/#"
BEFORE = re.compile(r"\s*(?:is|are|=|will be|must be|would be)?\s*(?:the|my|our)?[\w\s-]{0,20}$")


def final_formula(text: str, *, marked: bool = False, words: bool = False) -> str | None:
    r"""The final answer of a text in plain notation; None where it has none, empty where it breaks.

    It is the content of the last ``\boxed``, with those that a comma, "and" or "or" join to it;
    else the first formula in the sentence behind the last ``####``, ``A:``, ``<answer>`` or the
    word answer; else, unless ``marked``, the last formula of the text.

    Args:
        text: an answer, as ``notation.plain`` gives it.
        marked: whether only a box or a mark counts.
        words: whether the answer is expected to be words, such as even or Tuesday.

    """
    if (box := boxes(text)) is not None:
        return box
    text = HEDGE.sub(" or ", text)
    if (said := _marked(text, words=words)) is not None or marked:
        return said
    text = text.strip().strip("*").strip()
    if "\n" not in text and (is_words(text) or " " not in text or _stands_alone(text)):
        return text
    line = text.rpartition("\n")[2].strip(EDGES)
    return next(
        (piece for _, piece in reversed(list(_formulas(text)))), line if is_words(line) else None
    )


def boxes(text: str) -> str | None:
    """The content of the last box, and of those that are joined to it; None without one."""
    starts = [found.start() for found in BOX.finditer(text)]
    if not starts:
        return None
    piece = boxed(text) or ""
    for start, end in zip(reversed(starts[:-1]), reversed(starts), strict=False):
        one = text[start:end]
        content, _, between = one.rpartition("}")
        if not (inside := boxed(one)) or not content.rstrip().endswith(inside):
            break
        between = unlabelled(between).replace("$", " ").strip()
        if not (JOINED.fullmatch(between) or JOINED.fullmatch(f" {between} ")):
            break
        piece = rf"{inside} {'or' if 'or' in between else ','} {piece}"
    return piece


def _marked(text: str, *, words: bool) -> str | None:
    marks, loose = list(MARK.finditer(text))[-MARKS:], None
    for mark in reversed(marks):
        rest = text[mark.end() : mark.end() + LONGEST]
        if mark["line"]:
            rest = rest.partition("\n")[0].strip()
            return _first(rest) or rest
        if DENIED.match(rest):
            continue
        copula = COPULA.match(rest)
        lead = copula.end() if copula else 0
        found = SENTENCE.match(rest.lstrip("\n") if mark["tag"] else rest[lead:].lstrip())
        sentence = (found[0] if found else "").strip()
        piece = None if words else _first(sentence)
        if piece or (words and sentence):
            return piece or _clause(sentence)
        if not sentence.strip(EDGES) and (piece := _before(text[: mark.start()])):
            return piece
        if copula and copula["verb"] and loose is None:
            loose = _clause(sentence)
    return loose


def _before(text: str) -> str | None:
    """The formula of "72 is the final answer"."""
    sentence = re.split(r"[.!?]\s|\n", text[-200:])[-1]
    found = list(_formulas(sentence))
    if found and re.search(r"\b(?:is|are)\b", sentence[found[-1][0] :]):
        return found[-1][1] if BEFORE.match(sentence[found[-1][0] :]) else None
    return None


def _clause(sentence: str) -> str:
    """A sentence of words up to its first subordinate clause."""
    return re.split(r"[,;(]|\b(?:because|since|as|so|which)\b", sentence)[0].strip(EDGES)


def _first(sentence: str) -> str | None:
    """The first formula of a sentence, with a condition that follows it."""
    for end, piece in _formulas(sentence):
        tail = unlabelled(sentence[end:].replace("$", " "))
        if CONDITION.match(tail.lstrip(" ,")):
            return f"{piece} {tail.strip(EDGES)}"
        return piece
    return None


def _stands_alone(text: str) -> bool:
    """Whether a line is a formula and no prose, but for a condition."""
    first = next(_formulas(text, whole=True), None)
    if first is None or not text.replace("$", "").lstrip(EDGES).startswith(first[1][:9]):
        return False
    tail = unlabelled(text[first[0] :].replace("$", " ")).strip(" .,")
    return not tail or CONDITION.match(tail) is not None


def _formulas(text: str, *, whole: bool = False) -> Iterator[tuple[int, str]]:
    """(end, formula) of each run of signs, numbers and letters between the words of a text."""
    run: list[re.Match[str]] = []
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        word = kind == "word" and token[0] not in NAMES and len(token[0]) > 1
        if word and run and run[-1].end() == token.start() and run[-1].lastgroup in LEADS:
            word = len(token[0]) > 2 and run[-1].lastgroup != "number"
        if word or kind == "stop":
            yield from _formula(text, run, whole)
            run = []
        else:
            run.append(token)
    yield from _formula(text, run, whole)


LEADS = ("number", "sign", "command")


def _formula(text: str, run: list[re.Match[str]], whole: bool) -> Iterator[tuple[int, str]]:
    """The formula in a run of tokens, without joins, stops and articles at its edges."""
    first, last = 0, len(run)
    while first < last and (
        run[first].lastgroup == "join" or _is_apart(run[first : min(first + 2, last)])
    ):
        first += 1
    while first < last and (
        run[last - 1].lastgroup == "join" or _is_apart(run[max(first, last - 2) : last][::-1])
    ):
        last -= 1
    run = run[first:last]
    kinds = {token.lastgroup for token in run}
    letters = sum(token.lastgroup == "word" for token in run)
    if not kinds & {"formula", "number", "command"} and not (letters and (whole or letters > 1)):
        return
    start, end = run[0].start(), run[-1].end()
    piece = text[start:end].replace("\\$", "").replace("$", " ").strip()
    while piece and (piece[-1] in EDGES + "([{+-" or piece[0] in EDGES.replace(".", "") + ")]}"):
        piece = piece[:-1] if piece[-1] in EDGES + "([{+-" else piece[1:]
    for opening, closing in ("()", "[]"):
        if len(re.findall(r"[(\[]", piece)) < len(re.findall(r"[)\]]", piece)):
            piece = piece.rstrip(closing)
        piece = piece if re.search(r"[)\]]", piece) else piece.lstrip(opening)
    if piece and not re.search(r"\b(?:not|n't)\s*[($]*$", text[max(0, start - 9) : start]):
        yield end, piece


def _is_apart(edge: list[re.Match[str]]) -> bool:
    """Whether the token at an edge is a letter such as the article, beside a number or nothing."""
    token, *others = edge
    if token.lastgroup != "word" or token[0] in NAMES:
        return False
    if not others:
        return token[0] in ("a", "I")
    other = others[0]
    gap = max(token.start() - other.end(), other.start() - token.end())
    return gap > 0 and other.lastgroup in ("number", "formula", "word") and other[0] not in NAMES
