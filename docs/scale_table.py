"""The table of ``docs/scale.md`` for 8 and 64 nodes: python docs/scale_table.py prints it anew."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from backflip.cluster.devices import DEVICES
from backflip.cluster.forecast import PaperStage, on_paper
from backflip.recipes.load import load_recipe
from backflip.stages.plans import Lengths, Plan
from backflip.text import about, magnitude, percent

ROWS, PROMPT, ANSWER, EACH = 1024, 512, 512, 8
"""Rows of a step, tokens of a prompt and of an answer, answers drawn to a prompt."""
DRAWN = (
    f"prompts_per_step={ROWS}",
    f"answers_per_prompt={EACH}",
    f"sampling.max_tokens={ANSWER}",
    "max_rows=256",
)
WORKS = {
    "sft": (Lengths(PROMPT, ANSWER), (f"batch_size={ROWS}",)),
    "dpo": (Lengths(PROMPT, 2 * ANSWER, 2), (f"batch_size={ROWS}", "sampled_prompts=0")),
    "grpo": (Lengths(PROMPT, EACH * ANSWER, EACH), ("reward=exact", *DRAWN)),
    "ppo": (Lengths(PROMPT, EACH * ANSWER, EACH), ("reward={model}", *DRAWN)),
}
HEAD = (
    "| recipe, 8 B, all weights | nodes | seconds a step | tokens a second | GB a device of 80 "
    "| longest part | waits for |\n|---|---:|---:|---:|---:|---|---|"
)


def table() -> Iterator[str]:
    """Lines of Markdown: every work on 8 and on 64 nodes of 8 H100."""
    yield HEAD
    with tempfile.TemporaryDirectory() as folder:
        _save_config(Path(folder))
        for name in WORKS:
            for nodes in (8, 64):
                yield _line(name, nodes, _forecast(name, folder, nodes))


def _forecast(name: str, folder: str, nodes: int) -> PaperStage:
    lengths, settings = WORKS[name]
    settings = [text.format(model=folder) for text in settings]
    common = [f"model={folder}", "lora=null", "activation_checkpointing=true"]
    recipe = load_recipe(name, [*common, *settings])
    tokens = round(ROWS * lengths.tokens)
    plan = Plan(name, 0, 0, ROWS, 0, 0, steps=1, tokens=tokens, lengths=lengths)
    return on_paper(recipe, [plan], DEVICES["h100"], nodes=nodes, devices=8).stages[0]


def _line(name: str, nodes: int, found: PaperStage) -> str:
    longest = max(found.parts, key=lambda part: part.seconds)
    share = percent(longest.seconds / found.step)
    memory = sum(found.memory.values()) / 1e9
    cells = (
        f"`{name}`",
        str(nodes),
        about(found.step),
        magnitude(float(about(found.tokens_per_second).replace(",", ""))),
        f"{about(memory)}{' (does not fit)' if found.too_large else ''}",
        f"{longest.name}, {share}",
        longest.cause,
    )
    return f"| {' | '.join(cells)} |"


def _save_config(folder: Path) -> None:
    """The shape of Llama 3.1 8B, without weights."""
    from transformers import LlamaConfig

    LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
