"""The model card of a run: ``model/README.md``, which says what the model is and how to use it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from backflip.models import smollm2
from backflip.models.load import CLASSIFIER, model_folder
from backflip.models.save import READ
from backflip.stages.choices import NAMES
from backflip.training.run_folder import RunFolder, write_atomically

__all__ = ["write_card"]

CARD = "README.md"
WRITE = """from transformers import pipeline

name = {name}
writer = pipeline("text-generation", name)
talk = [{{"role": "user", "content": "What is a good name for a cat?"}}]
print(writer(talk, max_new_tokens=64)[0]["generated_text"][-1]["content"])
"""
SCORE = """from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = {name}
talk = [{{"role": "user", "content": "Name a cat."}}, {{"role": "assistant", "content": "Molly."}}]
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name)
tokens = tokenizer.apply_chat_template(talk, return_tensors="pt", return_dict=True)
score, scale = model(**tokens).logits[0, 0].item(), model.config.backflip
print(score, (score - scale["mean"][0]) / scale["std"][0])
"""
SCORE_MEAN = """from backflip.data.batches import (TokenSteps)
from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.models.load import load_tokenizer
from backflip.models.save import load_reward_model

name = {name}
prompt, answer, _ = ChatTemplate(load_tokenizer(name)).answer(
    [Message("user", "Name a cat.")], [Message("assistant", "Molly.")]
)
print(load_reward_model(name).scores(TokenSteps.of([prompt], [answer]))[0, 0].item())
"""
READ_LAST = """The logit is the raw score, the first number: the difference between two answers to
one prompt is the log odds that the first is preferred. The second number is on the scale of the
run, (logit − mean) / std. The score is read at the last token that is not padding, the end of the
last turn, where the chat template of this folder ends a text. A line end behind it is {line_end}.
A batch may be padded, best on the right, as the tokenizer does it; a model that counts positions
from where the padding begins (GPT-2) only there."""
READ_MEAN = """The score is the mean over the tokens of the answer. Plain transformers reads the
last token only and **gives another number**: score with Backflip, as above."""


def write_card(run: RunFolder, recipe: Any, summary: Mapping[str, Any]) -> None:
    """Write the card of the run's model, and for the run a README of what lies where."""
    if run.model_path.is_dir():
        write_atomically(run.model_path / CARD, _card(run, recipe, summary))
    model = model_folder(run.path)
    if model is not None and not (run.path / CARD).exists():
        write_atomically(run.path / CARD, _guide(run, recipe, model))


def _card(run: RunFolder, recipe: Any, summary: Mapping[str, Any]) -> str:
    model = run.model_path
    config = _config(model)
    scores = _scores(config)
    base = _base_on_hub(recipe.model)
    task = "text-classification" if scores else "text-generation"
    about: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task}
    about |= {"base_model": base} if base else {}
    source = getattr(recipe.data, "source", None)
    about |= {"datasets": [source]} if source and _on_hub(source) else {}
    about["tags"] = ["backflip", recipe.stage] + (["reward-model"] if scores else [])
    began = f", which began with {base}" if base and base != recipe.model else ""
    if recipe.model == smollm2.NAME:
        began = f" ({smollm2.HUB}{'' if smollm2.find() == smollm2.HUB else ', from a 4-bit copy'})"
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False)}---",
        f"# {run.path.resolve().name}",
        f"A {'reward model' if scores else 'language model'}, trained from "
        f"{_short(recipe.model)}{began}, by {recipe.method}, with Backflip {_version()}.",
        f"## Use\n\n```python\n{_code(model)}```",
        _reading(config) if scores else _ends(model),
        "## Training\n\n" + "\n".join(f"* {line}" for line in _training(recipe)),
        _measured(summary),
        "No licence is stated here: those of the base model and of the data hold.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _guide(run: RunFolder, recipe: Any, model: Path) -> str:
    """Files of a run's folder."""
    name = run.path.resolve().name
    lines = [
        f"* `{model.relative_to(run.path)}/`: the model, a plain Hugging Face folder with a card",
        "* `recipe.yaml`: all settings",
        "* `summary.json`: the results; `report.html`: the same with curves and samples",
    ]
    use = "evaluate" if _scores(_config(model)) else "chat"
    commands = [f"backflip {use} {run.path}", f"backflip push {run.path} owner/name"]
    if use == "evaluate":
        commands[0] += " data=COMPARISONS"
    return (
        f"# {name}\n\nA run of Backflip: {recipe.method}.\n\n" + "\n".join(lines) + "\n\n"
        f"```python\n{_code(model)}```\n\n```sh\n" + "\n".join(commands) + "\n```\n"
    )


def _code(model: Path) -> str:
    """Lines of Python that load the model and use it."""
    config = _config(model)
    code = WRITE if not _scores(config) else SCORE_MEAN if _by_mean(config) else SCORE
    return code.format(name=json.dumps(str(model), ensure_ascii=False))


def _reading(config: Mapping[str, Any]) -> str:
    line_end = config["backflip"].get("line_end", READ)
    text = READ_MEAN if _by_mean(config) else READ_LAST.format(line_end=line_end)
    if len(config["backflip"]["mean"]) > 1:
        text += (
            " The second logit is a head that learnt from the half of the comparisons which the "
            "first never saw, to judge by what was optimised against the first. Read the logit "
            "of the label `score`: a pipeline of transformers reports whichever is larger."
        )
    return text


def _ends(model: Path) -> str:
    paths = [model / name for name in ("generation_config.json", "tokenizer.json")]
    if not all(path.is_file() for path in paths):
        return ""
    generation, known = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
    stops = generation.get("eos_token_id")
    if stops is None:
        return ""
    names = {token["id"]: token["content"] for token in known.get("added_tokens", [])}
    told = [names.get(stop, str(stop)) for stop in (stops if isinstance(stops, list) else [stops])]
    listed = ", ".join(f"`{name}`" for name in told)
    return f"An answer ends at {listed}, as `generation_config.json` has it."


def merged_into(recipe: Any) -> str:
    """The weights that adapters were added to."""
    kind = recipe.quantization
    return f"the base's weights as {kind} has them, dequantised" if kind else "the weights"


def _training(recipe: Any) -> Iterator[str]:
    """The settings that a reader asks for first."""
    if recipe.parts()[0][1]:  # a chain, or rounds
        if recipe.data is not None:
            yield f"data: {_short(recipe.data.source)}"
        return
    yield f"data: {_short(recipe.data.source)}, at most {recipe.data.max_length} tokens a row"
    if recipe.lora is None:
        yield "all weights were trained"
    else:
        lora = recipe.lora
        yield f"LoRA of rank {lora.rank} (alpha {lora.alpha:g}), merged into {merged_into(recipe)}"
    size = getattr(recipe, "batch_size", None) or getattr(recipe, "prompts_per_step", None)
    adam = recipe.optimizer
    yield f"AdamW, learning rate {adam.lr:g} ({adam.schedule}), {size} rows a step"
    objective: Any = getattr(recipe, "objective", None) or getattr(recipe, "algorithm", None)
    if objective is not None:
        found = {k: v for k, v in vars(objective).items() if isinstance(v, int | float | str)}
        values = ", ".join(f"{key}={value}" for key, value in found.items())
        yield f"{NAMES[type(objective)]}" + (f": {values}" if values else "")
    yield f"seed {recipe.seed}"


def _measured(summary: Mapping[str, Any]) -> str:
    """The numbers of the summary, with their intervals, and its sentences."""
    lines: list[str] = []
    for key, value in summary.items():
        if key.endswith(("_low", "_high")) or not _is_number(value):
            continue
        low, high = (summary.get(f"{key}_{end}") for end in ("low", "high"))
        range_ = f" ({low:.4g} to {high:.4g})" if _is_number(low) and _is_number(high) else ""
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        lines.append(f"| {key.replace('_', ' ')} | {shown}{range_} |")
    if not lines:
        return ""
    said = "\n".join(f"* {sentence}" for sentence in summary.get("sentences", ()))
    table = "\n".join(["| | |", "|---|---|", *lines])
    return f"## Measured\n\n{table}" + (f"\n\n{said}" if said else "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _config(model: Path) -> dict[str, Any]:
    return json.loads((model / "config.json").read_text(encoding="utf-8"))


def _scores(config: Mapping[str, Any]) -> bool:
    return str((config.get("architectures") or [""])[0]).endswith(CLASSIFIER)


def _by_mean(config: Mapping[str, Any]) -> bool:
    return config["backflip"]["pooling"] == "mean"


def _on_hub(name: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not Path(name).exists()


def _base_on_hub(name: str) -> str | None:
    """The hub name of the model that it all began with; None where there is none."""
    if name == smollm2.NAME:
        return smollm2.HUB
    if _on_hub(name):
        return name
    path = Path(name).expanduser()
    card = (model_folder(path) or path) / CARD
    if not card.is_file():
        return None
    found = re.match(r"---\n(.*?)\n---\n", card.read_text(encoding="utf-8"), re.DOTALL)
    try:
        about = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError:
        return None
    base = about.get("base_model") if isinstance(about, dict) else None
    return base if isinstance(base, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None


def _short(name: str) -> str:
    """A name without the folders of this machine."""
    path = Path(name)
    if not (path.is_absolute() or path.exists()):
        return name
    parts = [part for part in path.parts[-3:] if part not in ("model", path.anchor)]
    return "/".join(parts[-2:]) if path.name == "model" else path.name


def _version() -> str:
    return metadata.version("backflip")
