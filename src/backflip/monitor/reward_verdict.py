"""What came of raising a reward: in words, and on cards.

Read from a stage's ``summary.json``: ``reward_before``, ``reward_after`` and ``reward_gain`` (after
less before on the same prompts), each a number or ``mean``, ``low``, ``high``, ``units``; the same
of ``reward_heldout``; ``kl_after`` (nats per answer, by the answers), ``kl_exact_after`` (by the
exact sum), ``best_step`` (0 where no checkpoint beat the start), ``best_by``, ``finished_after``,
``missing_eos``.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from backflip.monitor.card import Card
from backflip.monitor.cause import pointer
from backflip.monitor.charts import intervals
from backflip.monitor.direct_verdict import direct_stages
from backflip.monitor.folder import Run, number
from backflip.monitor.numbers import (
    Estimate,
    apart,
    beyond,
    change,
    estimate,
    interval_said,
    ranged,
    share_ranged,
    standing,
)
from backflip.monitor.progress import ROUNDING
from backflip.monitor.rules import ENDS, CutOff
from backflip.monitor.titles import KL_BY_ANSWERS, KL_EXACT, KL_MISMATCHED

LEASH = 20.0
"""Nats per answer."""
UNTOLD = 2
"""What ``_way`` says where there is too little to say which way a reward went."""


def reward_sentences(run: Run) -> list[str]:
    """The results as somebody would tell them; an alarm that explains them is named last."""
    said = [_cut_off_sentence(run), _reward_sentence(run), _heldout_sentence(run)]
    said.append(_best_sentence(run))
    stage = run.find("reward_after")[0]
    good = _way(run, "reward") == 1 and _way(run, "reward_heldout") in (1, None)
    if stage is not None and not good and ENDS not in said[0]:
        said.append(pointer(stage))
    return [sentence for sentence in said if sentence]


def reward_cards(run: Run) -> list[Card]:
    """Rewards before and after."""
    names = (("reward", "Reward"), ("reward_heldout", "Held-out reward"))
    made = [_gain_card(run, name, label) for name, label in names]
    return [card for card in made if card]


def _cut_off_sentence(run: Run) -> str:
    """The reward of answers that were cut off is one number, whatever they say."""
    stage = run.find("finished_after")[0]
    finished = estimate(run.summary if stage is None else stage.summary, "finished_after")
    price = number(run.find("missing_eos")[1])
    most = CutOff().share
    if stage is None or finished is None or price is None or finished.value >= most:
        return ""
    cut = Estimate(1 - finished.value, 1 - finished.high, 1 - finished.low, finished.units)
    value, ends = share_ranged(cut, beside=(1 - most,))
    text = f"{value} of the answers were cut off"
    (paid,) = apart([price], digits=0 if price == int(price) else 2)
    if cut.doubt:
        on = f" ({ends}, {standing(cut.units)})" if standing(cut.units) else ""
        return f"{text}{on}, and each got shaping.missing_eos ({paid}): {cut.doubt}."
    if beyond(finished, most) >= 0:
        return ""
    return (
        f"{text} ({ends}, {standing(cut.units)}) and got "
        f"shaping.missing_eos ({paid}), whatever they say: there was next to nothing to "
        f"learn from. {ENDS}, or set shaping.missing_eos=null."
    )


def _reward_sentence(run: Run) -> str:
    before, after = _mean(run, "reward_before"), _mean(run, "reward_after")
    if before is None or after is None:
        return ""
    text, printed = change(before.value, after.value)
    way, doubt = _way(run, "reward"), _doubt(run, "reward")
    tail = _gain_text(run, "reward") + _cost(run)
    if not printed or way == UNTOLD:
        went = "went " if printed else ""
        return f"The reward {went}{text}{tail}" + (f": {doubt}." if doubt else ".")
    said = {
        None: f"The mean reward went {text}{tail}.",
        0: f"The reward went {text}{tail}: within its 95 % interval, it may be chance.",
        -1: f"The reward fell {text}, beyond its 95 % interval{tail}: read the samples.",
        1: f"The reward rose {text}, beyond its 95 % interval{tail}.",
    }
    return said[way]


def _heldout_sentence(run: Run) -> str:
    """What the reward model says that nobody optimised against."""
    before, after = _mean(run, "reward_heldout_before"), _mean(run, "reward_heldout_after")
    way = _way(run, "reward_heldout")
    if before is None or after is None or way is None:
        return ""
    text, printed = change(before.value, after.value)
    if way == 0:
        return _within(run, text, printed)
    if way == 1:
        beside = " with it" if _way(run, "reward") == 1 else ""
        return f"The held-out reward rose{beside} ({text.removeprefix('from ')})."
    if way == -1:
        end = ": do not trust the gain." if _printed(run, "reward") > 0 else "."
        return f"The held-out reward fell ({text.removeprefix('from ')}){end}"
    doubt, went = _doubt(run, "reward_heldout"), "went " if printed else ""
    return f"The held-out reward {went}{text}" + (f": {doubt}." if doubt else ".")


def _within(run: Run, text: str, printed: int) -> str:
    """Of a held-out reward whose change is within its interval."""
    first, gain = _printed(run, "reward"), _gain_text(run, "reward_heldout")
    if printed > 0:
        too = " too" if first > 0 else ""
        return (
            f"The held-out reward rose{too} ({text.removeprefix('from ')}), but within its 95 % "
            "interval: more held-out prompts (validation_prompts) would tell."
        )
    end = ": it does not confirm the gain." if first > 0 else ", within its 95 % interval."
    return f"The held-out reward {'went ' if printed else ''}{text}{gain}{end}"


def _way(run: Run, name: str) -> int | None:
    """1 where a reward rose beyond its 95 % interval, −1 where it fell so, 0 where within.

    By the difference on the same prompts where that was measured: their own spread cancels in it.
    ``UNTOLD`` where there is an interval on too few prompts, or numbers that contradict each other;
    None where there is no interval.
    """
    before, after = _mean(run, f"{name}_before"), _mean(run, f"{name}_after")
    if before is None or after is None:
        return None
    gain, printed = _mean(run, f"{name}_gain"), change(before.value, after.value)[1]
    if gain is not None and gain.known:
        way = beyond(gain, 0.0) if gain.enough else UNTOLD
    elif before.known and after.known:
        both = before.enough and after.enough
        way = (after.low > before.high) - (after.high < before.low) if both else UNTOLD
    else:
        return None
    return UNTOLD if way in (1, -1) and way != printed else way


def _doubt(run: Run, name: str) -> str:
    """Why a reward gets no verdict; empty where it gets one, or has no interval to get one by."""
    if _way(run, name) != UNTOLD:
        return ""
    parts = [_mean(run, f"{name}_{part}") for part in ("gain", "after", "before")]
    found = [part for part in parts if part is not None and part.known and part.doubt]
    if not found:
        return ""
    paired = parts[0] is not None and parts[0].known
    on = "" if paired or found[0].units is None else f"{standing(found[0].units)}, "
    return on + found[0].doubt


def _printed(run: Run, name: str) -> int:
    """Which way a reward goes in the numbers that a reader sees."""
    before, after = _mean(run, f"{name}_before"), _mean(run, f"{name}_after")
    return 0 if before is None or after is None else change(before.value, after.value)[1]


def _gain_text(run: Run, name: str) -> str:
    """The gain with its interval, in brackets, where it was measured on the same prompts."""
    gain = _mean(run, f"{name}_gain")
    if gain is None or not gain.known:
        return ""
    value, ends = ranged(gain, digits=2, beside=(0.0,))
    on = f", {standing(gain.units)}" if gain.units is not None else ""
    return f" (gain {value}, {ends}{on})"


def _best_sentence(run: Run) -> str:
    stage, step = run.find("best_step")
    if stage is None or number(step) is None:
        return ""
    by = _measure(str(stage.summary.get("best_by") or ""))
    if step == 0:
        return f"No checkpoint beat the start by {by}: the model has the last weights."
    name = str(stage.summary.get("best_by") or "val_reward_heldout")
    tried = len(stage.series(name)[1])
    if tried < 2:
        return ""
    return (
        f"The weights are those of step {step:.0f}, the best of {tried} validations by {by} on the "
        "same prompts: that choice flatters what it gained."
    )


def _measure(name: str) -> str:
    known = {"val_reward": "reward on held-out prompts"}
    return known.get(name, "held-out reward")


# ---- KL


def _cost(run: Run) -> str:
    """How far the policy went for it: the exact sum where it was taken, else by the answers."""
    stage = run.find("kl_after")[0]
    if stage is None:
        return ""
    for key, called in (("kl_exact_after", KL_EXACT), ("kl_after", KL_BY_ANSWERS)):
        if (found := estimate(stage.summary, key)) is not None:
            value, ends = _nats(found)
            within = f" ({ends})" if ends else ""
            return f", {value} nats of {called}{within} away from the reference"
    return ""


def _nats(found: Estimate) -> tuple[str, str]:
    """A KL and its interval; what arithmetic leaves between a model and itself is 0."""
    if abs(found.value) < ROUNDING:
        return "0", ""
    value, ends = ranged(found, digits=2, beside=(0.0, LEASH))
    return value, ends


def kl_card(run: Run) -> Card | None:
    """How far the policy is from the reference, and by which measure."""
    found = _kl_of(run)
    if found is None:
        return None
    called, kl = found
    part = min(max(kl.value / LEASH, 0.0), 1.0)
    gauge = '<svg class="mini" viewBox="0 0 230 24" aria-hidden="true">{}{}</svg>'
    bar = Markup('<rect class="{}" width="{:.0f}" height="8" y="8" rx="4"/>')
    colour = "fill bad" if kl.value > LEASH else "fill c1"
    picture = Markup(gauge).format(bar.format("rail", 230), bar.format(colour, 230 * part))
    value, ends = _nats(kl)
    detail = f"{called}, per answer; " + (f"{interval_said(ends)}; " if ends else "")
    return Card("KL to the reference", f"{value} nats", f"{detail}the leash is 20", picture)


def _kl_of(run: Run) -> tuple[str, Estimate] | None:
    """The KL at the end, or at the last step so far, with the name of what it is."""
    stage = run.find("kl_after")[0]
    if stage is not None:
        for key, called in (("kl_exact_after", KL_EXACT), ("kl_after", KL_BY_ANSWERS)):
            if (found := estimate(stage.summary, key)) is not None:
                return called, found
    direct = direct_stages(run)
    for one in reversed(run.stages):
        mismatched = KL_MISMATCHED if one in direct else KL_BY_ANSWERS
        for metric, called in (("val_sampled_kl", KL_BY_ANSWERS), ("kl", mismatched)):
            if values := one.series(metric)[1]:
                return called, Estimate(values[-1])
    return None


# ---- cards


def _gain_card(run: Run, name: str, label: str) -> Card | None:
    before, after = _mean(run, f"{name}_before"), _mean(run, f"{name}_after")
    if before is None or after is None:
        return change_card(run, name, label)
    was, now = apart([before.value, after.value], digits=2)
    value = f"{was} → {now}"
    if not (before.known and after.known):
        return Card(label, value, "before and after")
    rows = [(n, m.value, m.low, m.high) for n, m in (("before", before), ("after", after))]
    ends = ranged(after, digits=2)[1]
    on = f", {standing(after.units)}" if after.units is not None else ""
    return Card(label, value, f"after: {interval_said(ends)}{on}", intervals(rows))


def change_card(run: Run, metric: str, label: str, end: str = "so far") -> Card | None:
    """First and last measurement, while a run is not over."""
    for stage in reversed(run.stages):
        steps, values = stage.series(metric)
        if values:
            was, now = apart([values[0], values[-1]], digits=2)
            detail = f"step {steps[0]:.0f} to {steps[-1]:.0f}, {end}"
            return Card(label, f"{was} → {now}", detail)
    return None


def _mean(run: Run, key: str) -> Estimate | None:
    value = run.find(key)[1]
    if isinstance(value, Mapping):
        named = {"mean" + ("" if part == "mean" else f"_{part}"): x for part, x in value.items()}
        return estimate(named, "mean")
    plain = number(value)
    return None if plain is None else Estimate(plain)
