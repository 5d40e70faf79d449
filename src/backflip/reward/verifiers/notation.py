"""Ways in which people and models write numbers and final answers, brought to one."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

__all__ = ["is_words", "number_of", "plain", "ungrouped", "unlabelled"]


class Signs(dict[int, str | None]):
    """What every sign of a text becomes, worked out when it is first met."""

    def __missing__(self, code: int) -> str | None:
        self[code] = _plain_sign(chr(code))
        return self[code]


def _plain_sign(sign: str) -> str | None:
    if sign < "\x7f":
        return sign if sign >= " " or sign in "\t\n" else None
    kind = unicodedata.category(sign)
    if kind == "Nd":
        return str(unicodedata.digit(sign))
    if kind == "Cc":
        return None
    if "\uff01" <= sign <= "\uff5e":  # fullwidth forms of ASCII
        return chr(ord(sign) - 0xFEE0)
    if kind == "No" and (parts := unicodedata.decomposition(sign).partition("> "))[2]:
        digits = [chr(int(code, 16)) for code in parts[2].split()]
        return f" {''.join(digits)}".replace("\u2044", "/") if "\u2044" in digits else sign
    return sign


SIGNS = Signs(
    str.maketrans(
        {
            **dict.fromkeys("−‒–﹣－➖", "-"),
            **dict.fromkeys("\u00a0\u2007\u2009\u200a\u202f\u3000", " "),
            **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", None),
            "×": r"\times ",
            "·": r"\cdot ",
            "÷": r"\div ",
            "⁄": "/",
            "∕": "/",
            "π": r"\pi ",
            "∞": r"\infty ",
            "√": r"\sqrt ",
            "°": r"^\circ ",
            "∪": r"\cup ",
            "≤": r"\le ",
            "≥": r"\ge ",
            "≡": r"\equiv ",
            "≠": r"\ne ",
            "≈": r"\approx ",
            "∈": r"\in ",
            "±": r"\pm ",
            "٪": "%",
            "％": "%",
            "٫": ".",
            "٬": ",",
            "＇": "'",
            "’": "'",
        }
    )
)
"""Signs with one meaning wherever they stand; marks without width are taken out."""
POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
GROUP = r"(?:,|\{,\}|,?\\[,!;: ]\s?|\\ |'| |\\thinspace\s?)"
"""A mark between groups of three digits."""
GROUPED = re.compile(rf"(?<![\d.,\w])(\d{{1,3}})((?:{GROUP}\d{{3}})+)(?![\d])")
MIXED = re.compile(
    r"(?<![\w.,/^\\}])(-?)(\d{1,9})(?:\s+|\s+and\s+|\s*\\[,; ]\s*)(\d{1,9})/(\d{1,9})(?!\d|[./]\d)"
)
LATEX_MIXED = re.compile(r"(?<![\w.^\\}])(-?)(\d{1,9})\s*\\[dt]?frac\s*\{?(\d+)\}?\s*\{?(\d+)\}?")
TRIGONOMETRIC = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*\{?\d\}?\s*)?(?:\\left)?[({]?\s*)"
    r"(-?\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?"
)
SCIENTIFIC = re.compile(
    r"(?<![\w.\\])(\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})[eE]([-+]?\d{1,6})(?![\w.]*\w)"
)
NUMERALS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")
RADIX = rf"(\d{{1,2}}|{'|'.join(NUMERALS)})"
LABEL = r"\\(?:text|mathrm|mbox|operatorname)\s*\{"
BELOW = re.compile(r"_\s*(?:\{((?:[^{}]|\{[^{}]*\}){1,40})\}|(?<=\d_)(\d{1,2})(?!\d))")
IN_BASE = re.compile(
    rf"(?<=[\dA-F)])\s*(?:{LABEL}(?P<said>[^{{}}]{{0,9}}\bbase\b[^{{}}]{{0,12}})\}}\s*"
    r"(?P<behind>\d{0,2})\)?"
    rf"|(?P<open>\()?\s*(?:in\s+)?base[\s-]+(?P<bare>{RADIX[1:-1]})\b(?(open)\s*\)))"
)
MODULO = re.compile(
    rf"(?P<open>\(\s*)?(?P<label>{LABEL}\s*)?(?P<inner>\(\s*)?\\?\b(?:pmod|bmod|modulo|mod)(?![A-Za-z])\s*"
    r"(?(label)(?P<mid>\})?)\s*(?P<group>\{)?\s*(?P<by>[^\s{}(),.$;]+)\s*(?(group)\})"
    r"(?(inner)\s*\))(?(mid)|(?(label)\s*\}))(?(open)\s*\))"
)
REPEATING = re.compile(r"(?<![\d.])(\d{0,20})\.(\d{0,40})\\overline\s*\{(\d{1,40})\}")
DOTS = re.compile(r"\\(?:[lc]?dots[bcimo]?)\b|…|\.{3,}")
WORDS = re.compile(r"[^\W\d_][^\W\d_' .-]*(?:[ '.-]+[^\W\d_]+)*\.?")
SHORT = ("no", "on", "No", "On")
"""Words that could be products."""


def plain(text: str) -> str:
    """Text with ASCII digits and minus signs, mixed numbers as fractions, degrees as radians.

    Controls such as NUL and marks without width are gone. Signs of mathematics become LaTeX.
    """
    text = re.sub(r"\s{9,}", lambda m: "\n" if "\n" in m[0] else " ", text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{{{m[0].translate(POWERS)}}}", text)
    text = text.translate(SIGNS)
    text = re.sub(r"(?<!\\)\\[()]", "$", re.sub(r"(?<!\\)\\[\[\]]", "$$", text))
    text = text.replace(r"\%", "%").replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    text = re.sub(r"(?<=\d)\s*(?:percent|per cent)\b", "%", DOTS.sub(r"\\ldots ", text))
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))", r"\\times ", text)
    text = SCIENTIFIC.sub(_times_ten, text)
    text = re.sub(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi ", text)
    text = MODULO.sub(r"\\pmod{\g<by>}", text)
    text = REPEATING.sub(_repeating, IN_BASE.sub(_below, BELOW.sub(_below, text)))
    text = re.sub(
        r"(?<=[A-Za-z:=({,$\n])([ \t]*)-[ \t]+(?=[\d.\\])|^(\s*)-[ \t]+(?=[\d.\\])", r"\1\2-", text
    )
    text = MIXED.sub(_improper, text)
    text = LATEX_MIXED.sub(_improper, text)
    return TRIGONOMETRIC.sub(r"\1\\frac{\2\\pi}{180}", text)


def _times_ten(found: re.Match[str]) -> str:
    said = rf"{found[1]}\times 10^{{{found[2]}}}"
    return f"({said})" if found.string[: found.start()].endswith(("/", "^")) else said


def _below(found: re.Match[str]) -> str:
    """A subscript that names a base, as _{8}; any other as it is."""
    said = re.sub(
        r"\bin\b|\bbase\b|[-\s(){}]", " ", unlabelled(" ".join(filter(None, found.groups())))
    )
    radix = "".join(dict.fromkeys(said.split()))
    if re.fullmatch(RADIX, radix):
        return f"_{{{NUMERALS.index(radix) + 2 if radix in NUMERALS else radix}}}"
    return found[0]


def _repeating(found: re.Match[str]) -> str:
    whole, once, again = found.groups()
    above = int(whole + once + again) - int(whole + once or 0)
    return rf"\frac{{{above}}}{{{10 ** len(once) * (10 ** len(again) - 1)}}}"


def _improper(found: re.Match[str]) -> str:
    sign, whole, above, below = found.groups()
    if not int(below) or int(above) >= int(below):
        return found[0]
    return f"{sign}{int(whole) * int(below) + int(above)}/{below}"


def number_of(piece: str) -> Decimal | None:
    """The number that a piece of text is, apart from signs of money and marks of thousands."""
    piece = ungrouped(piece).strip().removesuffix(".")
    found = re.fullmatch(r"\\?[$€£]?\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*\$?", piece)
    if found is None:
        return None
    try:
        return Decimal(found[1])
    except InvalidOperation:
        return None


def ungrouped(piece: str) -> str:
    """A piece of text with one number, without the marks between its thousands."""
    if re.search(r"[(\[{]\s*-?\d", piece.replace("{,}", "")) and not re.search(r"\\", piece):
        return piece  # 1,234 in brackets may be two numbers
    return GROUPED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), piece)


def unlabelled(piece: str) -> str:
    r"""A piece without the marks of upright text: of \text{even}, even."""
    return re.sub(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 ", piece)


def is_words(piece: str) -> bool:
    """Whether a piece is words and no formula: ABC, abc and no are words, xy is a product."""
    bare = unlabelled(piece).strip(" $.")
    if not WORDS.fullmatch(bare):
        return False
    return bool(re.search(r"[^\W\d_]{3}|[A-Z]{2}", bare)) or bare in SHORT
