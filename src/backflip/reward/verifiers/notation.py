"""Ways in which people and models write numbers and final answers, brought to one."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

__all__ = ["final", "is_words", "number_of", "plain"]


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
MARK = re.compile(r"(?:^|\n)[ \t*]*(?:####|A:)|(?i:\banswer\b)")
WORDS = re.compile(r"[^\W\d_][^\W\d_' .-]*(?:[ '.-]+[^\W\d_]+)*\.?")


def plain(text: str) -> str:
    """Text with ASCII digits and minus signs, mixed numbers as fractions, degrees as radians.

    Controls such as NUL and marks without width are gone. Signs of mathematics become LaTeX.
    """
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{{{m[0].translate(POWERS)}}}", text)
    text = text.translate(SIGNS)
    text = text.replace(r"\%", "%").replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac")
    text = re.sub(
        r"(?<=[A-Za-z:=({,$\n])([ \t]*)-[ \t]+(?=[\d.\\])|^(\s*)-[ \t]+(?=[\d.\\])", r"\1\2-", text
    )
    text = MIXED.sub(_improper, text)
    text = LATEX_MIXED.sub(_improper, text)
    return TRIGONOMETRIC.sub(r"\1\\frac{\2\\pi}{180}", text)


def _improper(found: re.Match[str]) -> str:
    sign, whole, above, below = found.groups()
    if not int(below) or int(above) >= int(below):
        return found[0]
    return f"{sign}{int(whole) * int(below) + int(above)}/{below}"


def final(text: str) -> str | None:
    """The text behind the last mark of an answer: ``####``, ``A:``, or the word answer."""
    marks = list(MARK.finditer(text))
    if not marks:
        return None
    rest = text[marks[-1].end() :].lstrip("* \t:=")
    if marks[-1][0].rstrip()[-1] in "#:":
        return rest.partition("\n")[0].strip()
    return re.sub(r"^(?:is|=|:|to .{0,60}? is)\s*:?\s*", "", rest).strip()


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


def is_words(piece: str) -> bool:
    """Whether a piece is words and no formula."""
    bare = re.sub(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}", r" \1 ", piece).strip(" $.")
    return bool(WORDS.fullmatch(bare) and re.search(r"[^\W\d_]{4}", bare))
