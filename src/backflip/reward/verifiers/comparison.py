"""Whether two final answers are one: words, bases, congruences, conditions, lists, numbers.

Formulas that are left are compared by ``algebra``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

from backflip.reward.verifiers.arithmetic import Value, same_values, value_of
from backflip.reward.verifiers.final_answer import CONDITION, JOINED
from backflip.reward.verifiers.notation import is_words, number_of, ungrouped, unlabelled

__all__ = ["compared", "conditions_of", "members", "normal_form", "value_in"]

T = TypeVar("T")
Formulas = Callable[[str, str], bool]
"""Whether two formulas, gold first, are one by algebra."""
LOOSE = re.compile(
    r"\\left|\\right|\\[,;:! ]|\$|(?<!\d)\s+|\s+(?!\d)|\\(?:text|mathrm|mbox)\s*(?=\{)"
)
"""Signs that change no answer."""
BASE = re.compile(
    r"(?<![\w\\])\(?((?:\d[\dA-F.]*|[A-F]+\d[\dA-F]*|[A-F]{2,}))\)?_\s*\{?(\d{1,2})\}?"
)
"""A number in another base than ten, such as 52_8."""
MODULO = r"\pmod{"
DOTS = r"\ldots"
FILLERS = re.compile(
    r"\b(?:is|are|an?|the|all|every|any|each|number|integers?|it|holds)\b|\\forall"
)
VARIABLE = re.compile(
    r"(?<![\w\\])[b-zB-HJ-Z](?!\w)|\\(?:alpha|beta|gamma|theta|lambda)|\b(?:odd|even)\b|^\s*$"
)
RELATION = re.compile(
    r"(\\(?:leq?|geq?|neq?|approx|in|equiv|lt|gt|leqslant|geqslant)(?![A-Za-z])|[<>]=?|=)"
)
EQUALS = {r"\approx": "=", "<=": r"\le", ">=": r"\ge", r"\leq": r"\le", r"\geq": r"\ge"}
EQUALS |= {r"\lt": "<", r"\gt": ">", r"\leqslant": r"\le", r"\geqslant": r"\ge", r"\neq": r"\ne"}
UNIT = re.compile(
    r"(?<=[\d)}%!])\s*(?:\\(?:text|mathrm|mbox|textbf|operatorname)\s*\{[^{}\d]*\}|\s[^\W\d_]{3,}"
    r"|(?:cm|mm|km|kg|mg|ft|lb|oz|ml|hr|min)\b)[^\W\d_.\s]*(?:\s[^\W\d_]+|\s*\^\{?[23]\}?)*\s*\.?$"
)
MOST = 60
"""Members of a list that are paired."""


def compared(gold: str, piece: str, formulas: Formulas) -> bool:
    """Whether two answers in plain notation are one."""
    if loose(gold) == loose(piece):
        return True
    for same in (_conditions, _dotted, _listed, _words, _congruent, _based, _numbers, _related):
        if (verdict := same(gold, piece, formulas)) is not None:
            return verdict
    return formulas(gold, piece)


def loose(piece: str) -> str:
    """A piece without signs that change no answer."""
    return LOOSE.sub("", piece)


# ---- text


def conditions_of(piece: str) -> list[tuple[str, str]]:
    """(value, condition) of each clause of "0 if n is odd, 1 if n is even"; empty without any."""
    text = unlabelled(re.sub(r"\\(?:begin|end)\s*\{cases\}|&|\$", " ", piece))
    text = text.replace(r"\forall", " for ")
    words = list(CONDITION.finditer(text))
    if not words:
        return []
    values, conditions = [text[: words[0].start()]], list[str]()
    for word, after in zip(words, [*words[1:], None], strict=True):
        rest = text[word.end() : after.start() if after else None]
        if after:
            *_, cut = list(re.finditer(r"\\\\|[,;\n]|\band\b|\bor\b", rest)) or [None]
            values.append(rest[cut.end() :] if cut else "")
            rest = rest[: cut.start()] if cut else rest
        conditions.append(rest if word[0] not in ("unless",) else f"not {rest}")
    pairs = zip(values, conditions, strict=True)
    return [(value.strip(" ,;"), bare) for value, bare in pairs if VARIABLE.search(bare)]


def _conditions(gold: str, piece: str, formulas: Formulas) -> bool | None:
    ours, theirs = conditions_of(gold), conditions_of(piece)
    if not ours and not theirs:
        return None

    def same(one: tuple[str, str], other: tuple[str, str]) -> bool:
        bare = (_condition(one[1]), _condition(other[1]))
        return bare[0] == bare[1] and compared(one[0], other[0], formulas)

    return _paired(ours, theirs, same)


def _condition(text: str) -> str:
    return re.sub(r"[\s.,()]+", "", FILLERS.sub(" ", text.casefold()))


def _dotted(gold: str, piece: str, formulas: Formulas) -> bool | None:
    """Ellipses: what stands around them is the same, member by member."""
    gold, piece = (re.sub(r"(?<=\.\d)(\d*)\s*\\ldots\s*$", r"\1", x) for x in (gold, piece))
    if DOTS not in gold and DOTS not in piece:
        return None
    ours, theirs = (members(x)[1] for x in (gold, piece))
    if len(ours) != len(theirs) or len(ours) == 1:
        return _dots_only(gold) == _dots_only(piece)

    def same(one: str, other: str) -> bool:
        if DOTS in one or DOTS in other:
            return loose(one) == loose(other)
        return compared(one, other, formulas)

    return all(map(same, ours, theirs))


def _dots_only(piece: str) -> str:
    return re.sub(r"[\s*]|\\(?:cdot|times)(?![A-Za-z])", "", loose(piece))


def _words(gold: str, piece: str, formulas: Formulas) -> bool | None:
    del formulas
    if is_words(gold):
        if re.search(r"\\(?:cdot|times)|\*", piece):
            return None  # abc may be a product
        return is_words(piece) and _bare_words(gold) == _bare_words(piece)
    return None


def _bare_words(piece: str) -> str:
    return " ".join(unlabelled(piece).strip(" $.").casefold().split())


def _congruent(gold: str, piece: str, formulas: Formulas) -> bool | None:
    r"""Residues: 1 \pmod 3 is 4 \pmod 3 and not 2 \pmod 3; a bare number is the least of them."""
    if MODULO not in gold and MODULO not in piece:
        return None
    ours, theirs = _residues(gold), _residues(piece)
    if ours is None or theirs is None:
        return False
    (left, first, by), (right, second, other) = ours, theirs
    if by is None or other is None:
        bare, residue, modulus = (first, second, other) if by is None else (second, first, by)
        if by is not None or len(bare) != 1 or len(residue) != 1:
            return False
        return compared(bare[0], residue[0], formulas) or _least(bare[0], residue[0], modulus)
    if not compared(by, other, formulas) or (left and right and loose(left) != loose(right)):
        return False
    return _paired(first, second, lambda a, b: _least(a, b, by, both=True, formulas=formulas))


def _residues(piece: str) -> tuple[str, Sequence[str], str | None] | None:
    """(what is congruent, to which residues, by which modulus)."""
    found = re.fullmatch(r"(?:(.*?)\\equiv)?(.*?)(?:\\pmod\{([^{}]*)\})?[\s$.)]*", piece, re.DOTALL)
    if found is None or MODULO in (found[2] or ""):
        return None
    return (found[1] or "").strip(" ($"), members(loose(found[2]).strip(" ("))[1], found[3]


def _least(
    one: str, other: str, by: str | None, *, both: bool = False, formulas: Formulas | None = None
) -> bool:
    """Whether a number is the residue of another, or where ``both`` are residues, they are one."""
    values = [value.number for x in (one, other, by) if (value := value_of(x or ""))]
    if len(values) < 3 or any(x.denominator != 1 for x in values) or not values[2]:
        return formulas is not None and compared(one, other, formulas)
    a, b, m = values
    return a % m == b % m if both else a == b % m


def _based(gold: str, piece: str, formulas: Formulas) -> bool | None:
    """Numbers in other bases are compared as they are written: 52_8 is no 42."""
    del formulas
    if not BASE.search(gold) and not BASE.search(piece):
        return None
    ours, theirs = (BASE.sub(r"\1_{\2}", loose(x)) for x in (gold, piece))
    return ours == theirs


# ---- lists, brackets, relations


def members(piece: str) -> tuple[str, list[str], bool]:
    """(brackets, members, whether "or" stands between all of them) of a list, point or set."""
    text = ungrouped(piece.strip(" $"))
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\s*", "", text)
    text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{\s*(,?\s*(?:or|and)\s*)\}", r" \1 ", text)
    text = re.sub(r"\\[lr]brace(?![A-Za-z])", lambda m: r"\{" if "l" in m[0][:3] else r"\}", text)
    text = re.sub(r"(?<!\\)\\[,;:! ]", " ", text).strip(" .,;")
    for opening, closing in (
        ("(", ")"),
        ("[", "]"),
        (r"\{", r"\}"),
        ("{", "}"),
        ("(", "]"),
        ("[", ")"),
    ):
        inside = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and _balanced(inside):
            parts, _ = _split(inside)
            if len(parts) > 1 or "{" in opening:
                return opening.lstrip("\\") + closing.lstrip("\\"), parts, False
    parts, joins = _split(text)
    parts = [signed for part in parts for signed in _plus_minus(part)]
    return "", parts, bool(joins) and all("or" in join and "and" not in join for join in joins)


def _plus_minus(part: str) -> list[str]:
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", part):
        return [part]
    plus, minus = r"\\pm(?![A-Za-z])", r"\\mp(?![A-Za-z])"
    return [re.sub(minus, b, re.sub(plus, a, part)) for a, b in (("+", "-"), ("-", "+"))]


def _balanced(text: str) -> bool:
    depth = 0
    for sign in re.finditer(r"[()\[\]{}]", text):
        depth += 1 if sign[0] in "([{" else -1
        if depth < 0:
            return False
    return depth == 0


def _split(text: str) -> tuple[list[str], list[str]]:
    """(parts, joins between them) at the commas and words that stand in no bracket."""
    parts, joins, depth, start, at = list[str](), list[str](), 0, 0, 0
    while at < len(text):
        depth += {**dict.fromkeys("([{", 1), **dict.fromkeys(")]}", -1)}.get(text[at], 0)
        join = JOINED.match(text, at) if not depth and text[at] in " ,;ao" else None
        if join and not (text[at] in "ao" and at and text[at - 1].isalpha()):
            parts, joins = [*parts, text[start:at]], [*joins, join[0]]
            start = at = join.end()
        else:
            at += 1
    return [*parts, text[start:]], joins


def _listed(gold: str, piece: str, formulas: Formulas) -> bool | None:
    if max(len(gold), len(piece)) > 20_000:
        return None
    (ours, golds, _), (theirs, pieces, either) = members(gold), members(piece)
    if MODULO in gold or MODULO in piece or len(golds) == len(pieces) == 1:
        bare = ours or theirs
        return compared(golds[0], pieces[0], formulas) if bare else _united(gold, piece, formulas)
    lonely = min(golds, pieces, key=len)
    if len(lonely) == 1 and RELATION.search(lonely[0]) and (ours or theirs):
        return None  # x \in [1, 2]
    if len(golds) == 1 and (either or re.fullmatch(r"-?\d+,\d+", piece)):
        ones = pieces if either else [piece.replace(",", ".")]
        return all(compared(gold, one, formulas) for one in ones)
    if ours != theirs and ((ours and theirs) or {"[]", "[)", "(]"} & {ours, theirs}):
        return False
    return _same_members(golds, pieces, ours, theirs, formulas)


def _same_members(
    golds: list[str], pieces: list[str], ours: str, theirs: str, formulas: Formulas
) -> bool:
    """Members in order of points and intervals, without repeats of sets, in any order of lists."""

    def same(one: str, other: str) -> bool:
        return compared(one, other, formulas)

    if ours == theirs and ours not in ("", "{}"):
        return len(golds) == len(pieces) and all(map(same, golds, pieces))
    if "{}" in (ours, theirs):
        return all(any(same(g, p) for p in pieces) for g in golds) and all(
            any(same(g, p) for g in golds) for p in pieces
        )
    return min(len(golds), len(pieces)) > 1 and _paired(golds, pieces, same)


def _united(gold: str, piece: str, formulas: Formulas) -> bool | None:
    r"""Unions: True where their parts are the same; else algebra decides."""
    ours, theirs = (re.split(r"\\cup(?![A-Za-z])", x) for x in (gold, piece))
    if len(ours) == 1 or len(ours) != len(theirs):
        return None
    return _paired(ours, theirs, lambda a, b: compared(a, b, formulas)) or None


def _paired(ours: Sequence[T], theirs: Sequence[T], same: Callable[[T, T], bool]) -> bool:
    """Whether each of some things is the same as another one of others, none twice."""
    left = list(theirs)
    if len(ours) != len(left) or len(left) > MOST:
        return False
    for one in ours:
        found = next((n for n, other in enumerate(left) if same(one, other)), None)
        if found is None:
            return False
        left.pop(found)
    return True


def _related(gold: str, piece: str, formulas: Formulas) -> bool | None:
    """Equations and inequalities, side by side; x = 3 is 3."""
    ours, theirs = (RELATION.split(x) for x in (gold, piece))
    signs = [[EQUALS.get(sign, sign) for sign in x[1::2]] for x in (ours, theirs)]
    sides = [x[0::2] for x in (ours, theirs)]
    plain = [set(x) <= {"=", r"\in"} for x in signs]
    if not signs[0] and not signs[1]:
        return None
    names = [_is_name(loose(x[0])) for x in sides]
    verdict: bool | None = None
    if signs[0] and signs[1]:
        pairs = zip(*sides, strict=False)
        if signs[0] == signs[1] and all(compared(a, b, formulas) for a, b in pairs):
            verdict = True
        elif all(plain) and all(names):
            one_name = loose(sides[0][0]) == loose(sides[1][0])
            verdict = one_name and compared(sides[0][-1], sides[1][-1], formulas)
    elif signs[0] and plain[0] and names[0]:
        verdict = compared(sides[0][-1], piece, formulas)
    elif signs[1] and plain[1]:
        verdict = compared(gold, sides[1][-1], formulas)
    return verdict


def _is_name(side: str) -> bool:
    """Whether a side of an equation is a variable, f(x), or a point of them."""
    return re.fullmatch(r"\\?[A-Za-z]+(?:_\{?\w+\}?|'|\([\w, ]*\))*", side) is not None


# ---- numbers


def value_in(piece: str) -> Value | None:
    """The exact value of a piece, apart from signs of money, units and marks of thousands."""
    text = re.sub(r"\\?[$€£]", "", ungrouped(piece)).strip().removesuffix(".").strip()
    text = re.sub(r"\s*\^\s*\{?\s*\\circ\s*\}?$", "", text)
    for bare in (text, UNIT.sub("", text)):
        if (value := value_of(bare)) is not None:
            return value
    return None


def _numbers(gold: str, piece: str, formulas: Formulas) -> bool | None:
    del formulas
    ours, theirs = value_in(gold), value_in(piece)
    if ours and theirs:
        return same_values(ours, theirs)
    long = number_of(gold), number_of(piece)
    if isinstance(long[0], Decimal) and isinstance(long[1], Decimal):
        return long[0] == long[1]
    return None


def normal_form(piece: str, *, percent: bool = False) -> str:
    """A text that all ways of writing one answer share, so far as no algebra is needed.

    Args:
        piece: an answer in plain notation.
        percent: whether 50% is told from 0.5.

    """
    bare = re.sub(r"\\ldots\s*$", "", piece)
    brackets, parts, _ = members(bare)
    if len(parts) > 1 and len(parts) <= MOST:
        forms = [normal_form(part, percent=percent) for part in parts]
        inside = ",".join(
            sorted(set(forms)) if brackets == "{}" else forms if brackets else sorted(forms)
        )
        return inside if not brackets else f"{brackets[0]}{inside}{brackets[1]}"
    if is_words(bare):
        return _bare_words(bare)
    if conditions_of(bare):
        return _condition(unlabelled(bare))
    sides = RELATION.split(bare)
    if len(sides) > 1 and set(sides[1::2]) == {"="} and _is_name(loose(sides[0])):
        bare = sides[-1]
    if (value := value_in(bare)) is not None:
        return written(value.number) + ("%" if percent and value.percent else "")
    number = number_of(bare)
    text = loose(UNIT.sub("", bare)).strip(" .").replace(" ", "")
    return text if number is None else f"{number.normalize():f}"


def written(number: Fraction) -> str:
    """A fraction as text: 1000, 0.5, 1/3."""
    below = number.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    if below == 1 and number.denominator < 10**30 and abs(number.numerator) < 10**300:
        return f"{(Decimal(number.numerator) / Decimal(number.denominator)).normalize():f}"
    try:
        return str(number)
    except ValueError:  # more than 4,300 digits
        return f"{number.numerator:x}/{number.denominator:x}"
