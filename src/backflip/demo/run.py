"""Run the demo and say in a terminal what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from backflip.evaluation.perplexity import Perplexities, measure_perplexities
from backflip.monitor.text import KL_BY_ANSWERS, apart, estimate, measured, share, share_ranged
from backflip.recipes.load import load_recipe
from backflip.recipes.run import resume, train
from backflip.training.run_folder import RunFolder

HERE = Path(__file__).parent


def run_demo(settings: Sequence[str] = (), console: Console | None = None) -> Path:
    """SFT, reward model and PPO on the demo's data; returns the run's folder.

    ``settings`` are ``key=value`` over those of ``demo.yaml``. A demo that was interrupted goes
    on; a finished one stays, and the next gets a new number.
    """
    console = console or Console()
    recipe = load_recipe(HERE / "demo.yaml", list(settings))
    target = _free(recipe.run)
    if RunFolder.holds_run(target):
        console.print(f"going on with {target}; settings are those it began with")
        resume(target)
    else:
        train(load_recipe(HERE / "demo.yaml", [*settings, f"run={target}"]))
    summary = json.loads(RunFolder.open(target).summary_path.read_text(encoding="utf-8"))
    _tell(console, summary, target, _perplexities(target, summary["ppo"]))
    return target


def _free(folder: Path) -> Path:
    """The folder, or the first numbered one beside it that holds no finished run."""
    number = 1
    candidate = folder
    while RunFolder.holds_run(candidate) and RunFolder.open(candidate).finished:
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _perplexities(folder: Path, ppo: Mapping[str, Any]) -> Perplexities:
    """Perplexities of held-out replies, before and after, under the model that all began with."""
    lines = (folder / "ppo" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    last = ppo.get("best_step") or max(sample["step"] for sample in samples)
    taken = {
        when: [sample for sample in samples if sample["step"] == step]
        for when, step in (("before", 0), ("after", last))
    }
    recipe: Any = load_recipe(folder / "recipe.yaml")
    return measure_perplexities(
        recipe.model,
        [sample["prompt"] for sample in taken["before"]],
        {when: [sample["answer"] for sample in rows] for when, rows in taken.items()},
        max_tokens=recipe.ppo.sampling.max_tokens,
        seed=recipe.seed,
    )


def _tell(
    console: Console, summary: Mapping[str, Any], folder: Path, replies: Perplexities
) -> None:
    console.print()
    console.print(_numbers(summary["reward_model"], summary["ppo"], replies))
    console.print(summary["ppo"]["examples_rule"])
    for example in summary["ppo"]["examples"]:
        console.print(_example(example))
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    console.print(f"model:  {folder / 'ppo' / 'model'}", soft_wrap=True)


def _numbers(
    reward_model: Mapping[str, Any], ppo: Mapping[str, Any], replies: Perplexities
) -> Table:
    table = Table(title="What came of it", title_justify="left", show_header=False)
    if (accuracy := measured(reward_model)) is not None:
        value, ends = share_ranged(accuracy)
        said = f"{value} ({ends}, {reward_model['pairs']} pairs)"
        table.add_row("reward model, held-out accuracy", said)
    longer = share(reward_model["baseline_longer"])
    table.add_row("  beside it: the longer reply wins", longer)
    for key, name in (("reward", "mean reward"), ("reward_heldout", "by the held-out head")):
        if f"{key}_before" in ppo:
            before, after = (_interval(ppo[f"{key}_{when}"]) for when in ("before", "after"))
            table.add_row(name, f"{before}  →  {after}")
        if f"{key}_gain" in ppo:
            table.add_row("  gain, same prompts", _interval(ppo[f"{key}_gain"]))
    before, after = (round(ppo[f"kl_{when}"], 1) + 0.0 for when in ("before", "after"))
    table.add_row(f"{KL_BY_ANSWERS}, from the start", f"{before:.1f}  →  {after:.1f} nats")
    medians = [f"{float(replies.of[when].median()):.0f}" for when in ("before", "after")]
    table.add_row("perplexity of the replies", "  →  ".join(medians))
    inside = [f"{replies.within(n)} of {len(replies.of[n])}" for n in ("before", "after")]
    table.add_row(f"  at most {replies.limit:.0f}", "  →  ".join(inside))
    table.caption = (
        "Perplexities are medians under the untouched model; nine in ten of its own replies, drawn "
        f"at temperature 1, lie at or below {replies.limit:.0f}."
    )
    return table


def _interval(value: Mapping[str, float]) -> str:
    """A mean with its interval, all with their signs."""
    named = {"mean" + ("" if part == "mean" else f"_{part}"): x for part, x in value.items()}
    found = estimate(named, "mean")
    if found is None:
        return "unknown"
    texts = apart([found.value, found.low, found.high, 0.0], digits=2)
    mean, low, high = (t if t in (texts[3], "nan") or t[0] == "−" else f"+{t}" for t in texts[:3])
    return f"{mean} ({low} to {high})" if found.known else f"{mean} (interval unknown)"


def _example(example: Mapping[str, Any]) -> Panel:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("prompt", Text(example["prompt"], style="bold"))
    table.add_row(f"before {example['score_before']:+.2f}", Text(example["before"]))
    table.add_row(f"after  {example['score_after']:+.2f}", Text(example["after"]))
    return Panel(table)
