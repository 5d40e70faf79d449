"""The picture of a run of rounds: one point per round, held-out prompts, intervals as bands.

Read from the metrics of its stage, one entry per round, so that a run may still be going on; its
summary has the rewards of the first and the last round, as one that raises a reward has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from backflip.functional.kl import LARGE_KL
from backflip.monitor.charts import intervals
from backflip.monitor.run import Stage
from backflip.monitor.text import (
    KL_BY_ANSWERS,
    TOO_FEW,
    Estimate,
    apart,
    beyond,
    estimate,
    interval_said,
    number,
    ranged,
    share,
    share_ranged,
    standing,
)
from backflip.monitor.views.base import KL_ALARM_LINE, Card, Panel, Table, View, kl_card
from backflip.monitor.views.online import reward_cards, reward_sentences
from backflip.monitor.views.online_panels import KL_METRICS

COIN = 0.5
PANELS = (
    Panel(
        "Win rate against round 0",
        "share of held-out prompts",
        {
            "win_rate": "by the judge",
            "win_rate_heldout": "by the held-out head",
            "longer": "if the longer answer won",
        },
        percent=True,
        lines=(("a coin", 0.5),),
    ),
    Panel("Reward", "score", {"reward": "reward", "reward_heldout": "held-out head"}),
    Panel(
        "KL to the start",
        "nats per answer",
        {"kl": KL_BY_ANSWERS},
        zero=True,
        lines=KL_ALARM_LINE,
    ),
    Panel(
        "Length of answers",
        "tokens",
        {"length": "held-out prompts", "sampled_length": "to learn from"},
        zero=True,
    ),
    Panel(
        "Answers that end by themselves",
        "share",
        {"finished": "held-out prompts", "sampled_finished": "to learn from"},
        percent=True,
        zero=True,
    ),
    Panel(
        "Answers to learn from",
        "score",
        {"sampled_reward": "mean", "sampled_reward_best": "best of each prompt"},
    ),
)
DROPPED = "dropped_"
"""Prefix of the shares of prompts that taught nothing, one metric a reason."""
COLUMNS: Sequence[tuple[str, str, str]] = (
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


def _panels(stage: Stage) -> tuple[Panel, ...]:
    """The charts to look at first; reasons for which prompts were dropped are those there were."""
    split = {name: name.partition(DROPPED) for name in stage.metrics() if DROPPED in name}
    reasons = {name: why.replace("_", " ") for name, (_, _, why) in split.items()}
    if len({many for many, _, _ in split.values()}) > 1:
        reasons = {name: f"{name.partition('_')[0]}: {why}" for name, why in reasons.items()}
    left_out = Panel("Prompts that taught nothing", "share", reasons, percent=True, zero=True)
    return (*PANELS, left_out) if reasons else PANELS


def _table(stage: Stage) -> Table:
    """A row per round, with intervals; columns that nobody measured are left out."""
    columns = [column for column in COLUMNS if column[1] in stage.metrics()]
    rows = [
        [str(e.step), *(_cell(e.metrics, metric, form) for _, metric, form in columns)]
        for e in stage.entries
    ]
    return ["round", *(head for head, _, _ in columns)], rows


def _sentences(stage: Stage) -> list[str]:
    lines = reward_sentences(stage)
    if len(stage.entries) > 1:
        lines += [_wins(stage, "win_rate", "the judge"), _head(stage), _length(stage), _far(stage)]
    return lines


def _win_card(stage: Stage) -> Card | None:
    """Win rates round by round."""
    rates = [(e.step, _rate(e.metrics, "win_rate")) for e in stage.entries if e.step]
    rows = [(step, rate) for step, rate in rates if rate is not None and rate.known]
    if not rows or len(stage.entries) < 2:
        return None
    last = rows[-1][1]
    value, ends = share_ranged(last, beside=(COIN,))
    on = f"{standing(last.units, 'held-out prompt')}" if last.units else "held-out prompts"
    drawn = [(f"round {step}", rate.value, rate.low, rate.high) for step, rate in rows]
    picture = intervals(drawn) if len(rows) <= 6 else Markup()
    return Card("Win rate against round 0", value, f"{interval_said(ends)}, on {on}", picture, ends)


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
    """The win rate by the head that nobody chose by."""
    text = _wins(stage, "win_rate_heldout", "the held-out head")
    judge, head = (_rate(stage.entries[-1].metrics, f"win_rate{end}") for end in ("", "_heldout"))
    if not text or judge is None or head is None or not head.enough or beyond(judge, COIN) <= 0:
        return text
    return text if beyond(head, COIN) > 0 else f"{text.rstrip('.')}. Do not trust the gain."


def _length(stage: Stage) -> str:
    """A change of length, and the win rate of length alone: the first thing to ask of a gain."""
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
    if kl is None or kl.value <= LARGE_KL or not _enough(stage.entries[-1].metrics):
        return ""
    away, _ = apart([kl.value, LARGE_KL], digits=0)
    return f"{KL_BY_ANSWERS} is {away} nats an answer away from the start, which is far."


def _rate(metrics: Mapping[str, float], metric: str) -> Estimate | None:
    """A number of a round, with its interval and the prompts that it stands on."""
    return estimate(metrics, metric, units="prompts")


def _enough(metrics: Mapping[str, float]) -> bool:
    """Whether a round was measured on enough prompts to speak of more than those."""
    rate = _rate(metrics, "win_rate")
    return rate is not None and rate.enough


def _cell(metrics: Mapping[str, float], metric: str, form: str) -> str:
    if (rate := _rate(metrics, metric)) is None:
        return "—"
    if form == "share":
        return share(rate.value, digits=0)
    if form == "number":
        return apart([rate.value], digits=1)[0]
    if form == "percent":
        value, ends = share_ranged(rate, digits=0, beside=(COIN,))
        ends = ends.removesuffix(" %")
    else:
        value, ends = ranged(rate, digits=2)
    return value + (f" [{ends.replace(' to ', ', ')}]" if ends else "")


VIEW = View(
    stages=("iterative", "rounds"),
    place=4,
    title="Round by round",
    headlines=("reward", "reward_heldout", "kl"),
    panels=_panels,
    sentences=_sentences,
    cards=lambda stage: (
        _win_card(stage),
        *reward_cards(stage),
        kl_card(stage, by=KL_METRICS),
    ),
    table=_table,
    x_label="round",
)
