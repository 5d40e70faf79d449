"""What came out of a run of rounds: in words, on cards, and as a table.

Read from the metrics of its stage, one entry per round, so that a run may still be going on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from backflip.monitor.card import Card
from backflip.monitor.charts import intervals
from backflip.monitor.folder import Run, Stage, number
from backflip.monitor.numbers import (
    TOO_FEW,
    Estimate,
    apart,
    beyond,
    estimate,
    interval_said,
    ranged,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.titles import KL_BY_ANSWERS

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
    ("finished", "finished", "percent"),
    (f"{KL_BY_ANSWERS}, nats", "kl", "interval"),
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
    known = [(e.step, _rate(e.metrics, "win_rate")) for e in stages[-1].entries if e.step]
    rows = [(step, rate) for step, rate in known if rate is not None and rate.known]
    if not rows:
        return []
    last = rows[-1][1]
    value, ends = share_ranged(last, beside=(COIN,))
    on = f"{standing(last.units, 'held-out prompt')}" if last.units else "held-out prompts"
    detail = f"{interval_said(ends)}, on {on}"
    drawn = [(f"round {step}", rate.value, rate.low, rate.high) for step, rate in rows]
    picture = intervals(drawn) if len(rows) <= 6 else Markup()
    return [Card("Win rate against round 0", value, detail, picture)]


def _wins(stage: Stage, metric: str, who: str) -> str:
    last = stage.entries[-1]
    rate = _rate(last.metrics, metric)
    if rate is None or not rate.known:
        return ""
    value, ends = share_ranged(rate, digits=0, beside=(COIN,))
    rounds = "round 1" if last.step == 1 else f"{last.step} rounds"
    text = f"After {rounds} {who} prefers the answer to round 0's on {value} of the prompts"
    text += f" ({ends.replace(' to ', '–')})"
    if rate.doubt:
        on = f"{standing(rate.units)}, " if rate.units is not None else ""
        return f"{text}: {on}{rate.doubt}."
    way = beyond(rate, COIN)
    if way > 0:
        return f"{text}, beyond its 95 % interval."
    if way < 0:
        return f"{text}: it got worse. Look at the samples."
    return f"{text}: that may be chance."


def _head(stage: Stage) -> str:
    """What the reward model says that nobody chose by."""
    text = _wins(stage, "win_rate_heldout", "the held-out head")
    judge, head = (_rate(stage.entries[-1].metrics, f"win_rate{end}") for end in ("", "_heldout"))
    if not text or judge is None or head is None or not head.enough or beyond(judge, COIN) <= 0:
        return text
    return text if beyond(head, COIN) > 0 else f"{text.rstrip('.')}. Do not trust the gain."


def _length(stage: Stage) -> str:
    """Where the judge prefers what is longer, or shorter, that is the first thing to ask."""
    first, last = stage.entries[0].metrics, stage.entries[-1].metrics
    before, after = number(first.get("length")), number(last.get("length"))
    longer = estimate(last, "longer", units="prompts")
    if not before or after is None or longer is None or abs(after / before - 1) < 0.2:
        return ""
    was, now = apart([before, after], digits=0)
    way = "longer" if after > before else "shorter"
    few = "" if _enough(last) else f" ({standing(longer.units)}, {TOO_FEW})".replace("(, ", "(")
    return (
        f"Answers grew {way}, from {was} to {now} tokens; taking the longer one would "
        f"win on {share(longer.value, digits=0)}{few}."
    )


def _far(stage: Stage) -> str:
    kl = _rate(stage.entries[-1].metrics, "kl")
    if kl is None or kl.value <= FAR or not _enough(stage.entries[-1].metrics):
        return ""
    nats, _ = apart([kl.value, FAR], digits=0)
    return f"{KL_BY_ANSWERS} is {nats} nats an answer away from the start, which is far."


def _rate(metrics: Mapping[str, float], metric: str) -> Estimate | None:
    """A number of a round, with its interval and the prompts that it stands on."""
    return estimate(metrics, metric, units="prompts")


def _enough(metrics: Mapping[str, float]) -> bool:
    """Whether a round was measured on enough prompts to speak of more than those."""
    rate = _rate(metrics, "win_rate")
    return rate is not None and rate.enough


def _cell(metrics: Mapping[str, float], metric: str, form: str) -> str:
    if (found := _rate(metrics, metric)) is None:
        return "—"
    if form == "share":
        return share(found.value, digits=0)
    if form == "number":
        return apart([found.value], digits=1)[0]
    if form == "percent":
        value, ends = share_ranged(found, digits=0, beside=(COIN,))
        ends = ends.removesuffix(" %")
    else:
        value, ends = ranged(found, digits=2)
    return value + (f" [{ends.replace(' to ', ', ')}]" if ends else "")
