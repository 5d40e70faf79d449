"""Pictures of results, drawn as SVG: pairs of bars, and the paper that others draw on."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
WIDTH, LEFT, BAR, GAP = 860, 16, 16, 34
OURS, PEER, INK = "#2a78d6", "#a3a9b3", "#24292f"
NAME_LINE = 22
"""Height of the line with the name of the work."""


def chart(rows: list[Row]) -> str:
    """For each work two pairs of bars: seconds on the left, memory on the right."""
    block = NAME_LINE + 2 * BAR + GAP - 14
    height = 56 + block * len(rows) + 8
    half = (WIDTH - 3 * LEFT) // 2
    right = 2 * LEFT + half
    parts = [_key(LEFT, 24), text(LEFT, 48, "seconds (less is better)", bold=True)]
    parts += [text(right, 48, "peak memory (less is better)", bold=True)]
    for number, r in enumerate(rows):
        top = 56 + block * number
        per = "" if r["unit"] == "step" else f", for {r['unit']}"
        parts.append(text(LEFT, top + 15, r["work"] + per))
        ratio = f"{r['speedup']:.1f} × as fast"
        seconds, memory = (r["ours_s"], r["peer_s"]), (r["ours_gb"], r["peer_gb"])
        parts += _bars(LEFT, top + NAME_LINE, half, seconds, "{:.1f} s", ratio)
        less = f"{r['ours_gb'] / r['peer_gb']:.0%} of the memory"
        parts += _bars(right, top + NAME_LINE, half, memory, "{:.1f} GB", less)
    return canvas(WIDTH, height, parts)


def _bars(
    x: int, y: int, width: int, pair: tuple[float, float], form: str, remark: str
) -> list[str]:
    """Two bars on a scale of their own; the longer takes 55 % of the width."""
    unit = 0.55 * width / max(pair)
    parts = []
    for place, (value, colour) in enumerate(zip(pair, (OURS, PEER), strict=True)):
        top, long = y + place * (BAR + 2), value * unit
        label = form.format(value) + (f"   {remark}" if place == 0 else "")
        parts.append(
            f'<rect x="{x}" y="{top}" width="{long:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        )
        parts.append(text(x + long + 6, top + BAR - 4, label, bold=place == 0))
    return parts


def _key(x: int, y: int) -> str:
    box = '<rect x="{}" y="{}" width="12" height="12" rx="2" fill="{}"/>'
    return "".join(
        [
            box.format(x, y - 11, OURS), text(x + 18, y, "Backflip"),
            box.format(x + 96, y - 11, PEER), text(x + 114, y, "TRL, transformers"),
        ]
    )  # fmt: skip


def text(x: float, y: float, words: str, *, bold: bool = False) -> str:
    """Words in a picture."""
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:.1f}" y="{y:.1f}" fill="{INK}"'
    return f'<text {place}{weight} xml:space="preserve">{words}</text>'


def canvas(width: float, height: float, parts: list[str]) -> str:
    """A picture of this size on white."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
