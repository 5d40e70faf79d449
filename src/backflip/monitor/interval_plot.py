"""Means with their intervals under one another, over a common axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from backflip.functional.statistics import Interval
from backflip.monitor.charts import nice_ticks, shown

__all__ = ["Bar", "interval_plot"]

WIDTH, NAMES, RIGHT, ROW, TOP, BOTTOM = 420, 172, 24, 22, 8, 40
LETTERS = 26
"""Of a name, before it is cut."""


@dataclass(frozen=True)
class Bar:
    """One row: a name, its mean with its interval, and what a pointer is told."""

    name: str
    interval: Interval
    told: str = ""
    colour: int = 1


def interval_plot(
    bars: Sequence[Bar],
    *,
    title: str,
    unit: str = "",
    percent: bool = False,
    line: float | None = None,
    note: str = "",
) -> Markup:
    """A figure with a row for each bar; empty where no bar has a number.

    ``line``: a value worth a dashed upright line, such as ½.
    """
    bars = [bar for bar in bars if math.isfinite(bar.interval.estimate)]
    if not bars:
        return Markup()
    low, high = _range(bars, line)
    ticks = nice_ticks(low, high, most=4)
    if percent:
        ticks = [tick for tick in ticks if -1 <= tick <= 1]
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    bottom = TOP + ROW * len(bars)

    def px(x: float) -> float:
        inside = min(max(x, low), high)
        return round(NAMES + (inside - low) / ((high - low) or 1) * (WIDTH - NAMES - RIGHT), 1)

    body = [_tick(px(tick), bottom, shown(tick, percent=percent)) for tick in ticks]
    if line is not None:
        body.append(_upright(px(line), bottom, "ideal"))
    body += [_row(bar, place, px) for place, bar in enumerate(bars)]
    axis = '<text class="axis" text-anchor="end" x="{}" y="{}">{}</text>'
    body.append(Markup(axis).format(WIDTH - RIGHT, bottom + 34, unit))
    return _figure(title, body, bottom + BOTTOM, _spoken(bars, percent=percent), note)


def _spoken(bars: Sequence[Bar], *, percent: bool) -> str:
    return "; ".join(f"{b.name} {shown(b.interval.estimate, percent=percent)}" for b in bars)


def _figure(title: str, body: Sequence[Markup], height: float, spoken: str, note: str) -> Markup:
    html = (
        '<figure class="chart"><figcaption><b>{title}</b></figcaption><svg viewBox="0 0 {w} {h}" '
        'role="img" aria-label="{title}: {spoken}">{body}</svg>{note}</figure>'
    )
    said = Markup('<p class="note">{}</p>').format(note) if note else Markup()
    return Markup(html).format(
        title=title, w=WIDTH, h=height, spoken=spoken, body=Markup().join(body), note=said
    )


def _range(bars: Sequence[Bar], line: float | None) -> tuple[float, float]:
    """From the lowest end to the highest; of an interval without ends its mean alone."""
    ends = [x for b in bars for x in (b.interval.estimate, b.interval.low, b.interval.high)]
    known = [x for x in ends if math.isfinite(x)] + ([] if line is None else [line])
    return min(known), max(known)


def _upright(x: float, bottom: float, kind: str) -> Markup:
    line = '<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
    return Markup(line).format(kind, TOP, bottom, x=x)


def _tick(x: float, bottom: float, label: str) -> Markup:
    text = '<text class="tick" text-anchor="middle" x="{}" y="{}">{}</text>'
    return _upright(x, bottom, "grid") + Markup(text).format(x, bottom + 16, label)


def _row(bar: Bar, place: int, px: Callable[[float], float]) -> Markup:
    y = TOP + ROW * place + ROW / 2
    name = bar.name if len(bar.name) <= LETTERS else f"{bar.name[: LETTERS - 1]}…"
    row = (
        '<g><title>{told}</title><text class="tick" text-anchor="end" x="{edge}" y="{below}">{name}'
        '</text><line class="bar c{c}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        '<circle class="dot c{c}" cx="{x}" cy="{y}" r="4"/></g>'
    )
    interval = bar.interval
    return Markup(row).format(
        told=bar.told or bar.name, edge=NAMES - 8, below=y + 4, name=name, c=bar.colour, y=y,
        low=px(interval.low), high=px(interval.high), x=px(interval.estimate),
    )  # fmt: skip
