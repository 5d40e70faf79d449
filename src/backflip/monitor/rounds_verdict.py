"""What came out of a run of rounds: in words, on cards, and as a table.

Read from the metrics of its stage, one entry per round, so that a run may still be going on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from backflip.monitor.card import Card
from backflip.monitor.folder import Run, Stage, number
from backflip.monitor.pictures import intervals, shown

STAGE = "iterative"
"""What the stage is called that a run of rounds logs under."""
FAR = 20.0
"""Nats of KL per answer, beyond which the policy is far from where it began."""
COIN = 0.5
Columns = Sequence[tuple[str, str, str]]
COLUMNS: Columns = (
    ("win rate", "win_rate", "percent"),
    ("by the held-out head", "win_rate_heldout", "percent"),
    ("the longer wins", "longer", "share"),
    ("reward", "reward", "interval"),
    ("held-out reward", "reward_heldout", "interval"),
    ("length", "length", "number"),
    ("finished", "finished", "share"),
    ("KL, nats", "kl", "number"),
)
"""Head, metric, and how it is written."""


def rounds_stages(run: Run) -> list[Stage]:
    """The stages that went by rounds."""
    return [stage for stage in run.stages if stage.name == STAGE]


def rounds_table(stage: Stage) -> tuple[list[str], list[list[str]]]:
    """Head and rows, with intervals; columns that nobody measured are left out."""
    known = [column for column in COLUMNS if column[1] in stage.metrics()]
    rows = [
        [str(e.step), *(_cell(e.metrics, metric, form) for _, metric, form in known)]
        for e in stage.entries
    ]
    return ["round", *(head for head, _, _ in known)], rows


def rounds_sentences(run: Run) -> list[str]:
    """The results of each such stage as somebody would tell them."""
    found: list[str] = []
    for stage in rounds_stages(run):
        if len(stage.entries) > 1:
            found += [_wins(stage, "win_rate", "the judge"), _head(stage)]
            found += [_length(stage), _far(stage)]
    return [sentence for sentence in found if sentence]


def rounds_cards(run: Run) -> list[Card]:
    """Win rates round by round."""
    stages = [stage for stage in rounds_stages(run) if len(stage.entries) > 1]
    if not stages:
        return []
    rows = [
        (f"round {e.step}", *bounds)
        for e in stages[-1].entries
        if e.step and (bounds := _bounds(e.metrics, "win_rate")) is not None
    ]
    if not rows:
        return []
    _, rate, low, high = rows[-1]
    detail = f"95 % interval {low * 100:.0f} to {high * 100:.0f} %, on held-out prompts"
    picture = intervals(rows) if len(rows) <= 6 else Markup()
    return [Card("Win rate against round 0", f"{rate * 100:.1f} %", detail, picture)]


def _wins(stage: Stage, metric: str, who: str) -> str:
    last = stage.entries[-1]
    if (bounds := _bounds(last.metrics, metric)) is None:
        return ""
    rate, low, high = bounds
    rounds = "round" if last.step == 1 else f"{last.step} rounds"
    text = f"After {rounds} {who} prefers the answer to round 0's on {_share(rate)} of the prompts"
    text += f" ({low * 100:.0f}–{high * 100:.0f} %)"
    if low > COIN:
        return f"{text}, beyond its 95 % interval."
    if high < COIN:
        return f"{text}: it got worse. Look at the samples."
    return f"{text}: that may be chance."


def _head(stage: Stage) -> str:
    """What the reward model says that nobody chose by."""
    text = _wins(stage, "win_rate_heldout", "the held-out head")
    bounds = _bounds(stage.entries[-1].metrics, "win_rate")
    if not text or bounds is None or bounds[1] <= COIN:
        return text
    other = _bounds(stage.entries[-1].metrics, "win_rate_heldout")
    if other is not None and other[0] <= COIN:
        return f"{text.rstrip('.')} Do not trust the gain."
    return text


def _length(stage: Stage) -> str:
    """Where the judge prefers what is longer, or shorter, that is the first thing to ask."""
    first, last = stage.entries[0].metrics, stage.entries[-1].metrics
    before, after, longer = (
        number(first.get("length")),
        number(last.get("length")),
        number(last.get("longer")),
    )
    if not before or after is None or longer is None or abs(after / before - 1) < 0.2:
        return ""
    way = "longer" if after > before else "shorter"
    return (
        f"Answers grew {way}, from {before:.0f} to {after:.0f} tokens; taking the longer one would "
        f"win on {_share(longer)}."
    )


def _far(stage: Stage) -> str:
    kl = number(stage.entries[-1].metrics.get("kl"))
    if kl is None or kl <= FAR:
        return ""
    return f"The policy is {shown(kl)} nats an answer away from the start, which is far."


def _cell(metrics: Mapping[str, float], metric: str, form: str) -> str:
    if (value := number(metrics.get(metric))) is None:
        return "—"
    if form == "share":
        return _share(value)
    if form == "number":
        return shown(round(value, 2) + 0.0)  # −0.0 is 0
    bounds = _bounds(metrics, metric)
    if form == "percent":
        ends = f" [{bounds[1] * 100:.0f}, {bounds[2] * 100:.0f}]" if bounds else ""
        return _share(value) + ends
    text = f"{value:.2f}" + (f" [{bounds[1]:.2f}, {bounds[2]:.2f}]" if bounds else "")
    return text.replace("-", "−")


def _bounds(metrics: Mapping[str, float], metric: str) -> tuple[float, float, float] | None:
    value, low, high = (number(metrics.get(f"{metric}{end}")) for end in ("", "_low", "_high"))
    return None if value is None or low is None or high is None else (value, low, high)


def _share(share: float) -> str:
    return f"{share * 100:.0f} %"
