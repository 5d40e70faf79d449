"""From a trained model to a plain Hugging Face folder, and back for reward models.

What is saved behaves in other programs as it does here: it stops at the same tokens, and a reward
model gives the same score alone, padded, and on a text as its chat template writes it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from backflip.distributed.layout import plain
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models.causal import CausalPolicy, is_adapted
from backflip.models.heads import Reading, RewardModel
from backflip.models.line_ends import drop_line_end
from backflip.models.load import (
    architecture,
    check_classifier,
    load_classifier,
    load_tokenizer,
    quiet,
)
from backflip.models.lora import merged
from backflip.models.special_tokens import (
    ended_template,
    ends,
    other_ends,
    reading_of,
    template_of,
    with_padding,
)
from backflip.models.whole_folder import written_whole

LAST = "the last token that is not padding, as transformers reads it"
MEAN = (
    "the mean over the answer's tokens, which plain transformers cannot: its logits are another "
    "number. Load with backflip.load_reward_model"
)
"""Where the score of a saved reward model is read, as its config says it."""
DROPPED = "dropped by the tokenizer"
READ = "read like any other token and changes the score, so cut it off"
"""The fate of the line end that the base's template wrote behind the last turn."""
LABELS = ("score", "held_out")
STEP_LABELS = {1: ("good",), 3: ("bad", "neutral", "good")}
"""Logits of a process model, by their number."""


def save_policy(
    policy: CausalPolicy, tokenizer: Any, folder: Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write ``folder``/model, and ``folder``/adapter beside it where there are adapters.

    ``dtype``: of the weights on disk; None, as they are in memory.
    """
    whole = plain(policy, only_leader=True).model

    def save() -> None:
        if is_adapted(whole):
            written_whole(folder / "adapter", whole.save_pretrained)
        alone = merged(whole)
        written_whole(folder / "model", lambda tmp: _save_policy(alone, tokenizer, tmp, dtype))

    here().once(save)


def _save_policy(alone: Any, tokenizer: Any, folder: Path, dtype: torch.dtype | None) -> None:
    template = template_of(tokenizer)
    rows = alone.get_input_embeddings().weight.shape[0]
    stops = dict.fromkeys((*ends(tokenizer, template), *other_ends(tokenizer, alone)))
    saved = with_padding(tokenizer, template, stops, rows, needed=False)
    _save(alone, saved, folder, dtype)
    padding = {} if saved.pad_token_id is None else {"pad_token_id": saved.pad_token_id}
    _amend(folder / "config.json", padding)
    _amend(
        folder / "generation_config.json",
        padding | ({"eos_token_id": list(stops)} if stops else {}),
    )


def save_reward_model(
    model: RewardModel,
    tokenizer: Any,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    process: Mapping[str, Any] | None = None,
) -> None:
    """Write ``folder``/model as a sequence classifier: its logits are the raw scores.

    The scale (mean and std of each head) and the pooling stand in the config under ``backflip``.
    The chat template that is saved writes nothing behind the end of an answer, where the score was
    learnt. ``dtype``: of the weights on disk; None, as they are in memory. ``process``: of a model
    of steps, how it cuts them; its logits are those of the step that ends the text.
    """
    whole = plain(model, only_leader=True)
    here().once(lambda: _save_reward_model(whole, tokenizer, folder, dtype, process))


def _save_reward_model(
    model: RewardModel,
    tokenizer: Any,
    folder: Path,
    dtype: torch.dtype | None,
    process: Mapping[str, Any] | None,
) -> None:
    if is_adapted(model.trunk.model):
        adapted: Any = model.trunk.model
        written_whole(folder / "adapter", adapted.save_pretrained)
    alone = merged(model.trunk.model)
    template = template_of(tokenizer)
    rows = alone.get_input_embeddings().weight.shape[0]
    stops = ends(tokenizer, template)
    saved = with_padding(tokenizer, template, stops, rows, needed=True)
    saved.padding_side = "right"
    if template is not None:
        saved.chat_template = ended_template(template)
    classifier = _classifier(model, alone, saved.pad_token_id, process)

    def write(tmp: Path) -> None:
        _save(classifier, saved, tmp, dtype)
        if template is not None and template.tail:
            done = drop_line_end(tmp, template)
            marks = classifier.config.backflip | {"line_end": DROPPED if done else READ}
            _amend(tmp / "config.json", {"backflip": marks})

    written_whole(folder / "model", write)


def _classifier(
    model: RewardModel, alone: Any, padding: int, process: Mapping[str, Any] | None
) -> Any:
    """A sequence classifier of transformers with the weights of a reward model."""
    config = type(alone.config).from_dict(alone.config.to_dict())
    members = [LABELS[0], *(f"{LABELS[0]}_{i}" for i in range(1, model.members))]
    names = [*members, LABELS[1]] if process is None else STEP_LABELS[model.heads]
    labels = names[: model.heads]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.pad_token_id = padding
    text = config.get_text_config()
    body = dict(alone.base_model.state_dict())
    known = alone.get_input_embeddings().weight
    if padding >= len(known):
        name = next(k for k, v in body.items() if v.data_ptr() == known.data_ptr())
        body[name] = nnf.pad(known.detach(), (0, 0, 0, padding + 1 - len(known)))
        text.vocab_size = padding + 1
    config.backflip = {
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
        "pooling": model.pooling,
        "members": model.members,
        "reads": LAST if model.pooling == "last" else MEAN,
    } | ({} if process is None else {"process": dict(process)})
    classifier = _empty_classifier(config, alone.dtype)
    prefix = classifier.base_model_prefix
    state = {f"{prefix}.{k}": v for k, v in body.items()}
    state["score.weight"] = model.score.weight.detach().to(alone.dtype)
    classifier.load_state_dict(state, assign=True, strict=False)
    return classifier


def check_savable(model: Any) -> None:
    """Refuse, before any training, a model that could not be saved as a reward model.

    ``model``: a transformers (or peft) model, or its config.

    Raises:
        UserError: transformers has no sequence classifier of this type that ends in ``score``.

    """
    _empty_classifier(getattr(model, "config", model), torch.float32)


def _empty_classifier(config: Any, dtype: torch.dtype) -> Any:
    """The sequence classifier of a model type, without memory for its weights."""
    from transformers import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        AutoModelForSequenceClassification,
    )

    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        with torch.device("meta"), quiet():
            classifier = AutoModelForSequenceClassification.from_config(config, dtype=dtype)
        if hasattr(classifier, "score"):
            return classifier
    raise UserError(
        f"{config.model_type} cannot be saved as a reward model: transformers has no sequence "
        "classifier with a score head for it. Start from a Llama, Mistral, Qwen, Gemma or GPT-2."
    )


def load_reward_model(
    name: str, *, precision: str = "auto", template: str | None = None, steps: bool = False
) -> RewardModel:
    """A reward model of ours, or a classifier of transformers with one label, read as it reads.

    Args:
        name: a folder, a run or a hub name.
        precision: float32, bfloat16 or auto, as in a recipe.
        template: the chat template of its texts, by name or as Jinja text, where its tokenizer has
            none.
        steps: whether it is to be a process model, which judges steps.

    Raises:
        UserError: a process model in place of a reward model, more labels than one, a head that is
            not a linear layer on the last token, or no classifier at all.

    """
    config = check_classifier(name)
    ours = _marks_of_ours(config)
    _check_kind(name, config, ours, steps=steps)
    classifier = load_classifier(name, precision=precision)
    _check_linear_head(name, config, classifier)
    marks = ours or {}
    model = RewardModel(
        classifier,
        heads=int(config.num_labels),
        members=int(marks.get("members", 1)),
        pooling=marks.get("pooling", "last"),
        reading=_reading(name, config, marks, template),
    )
    for part in ("weight", "bias"):
        value = getattr(classifier.score, part)
        setattr(model.score, part, None if value is None else nn.Parameter(value.detach().float()))
    if ours is None:
        _check_agrees(name, model, classifier)
    else:
        model.mean.copy_(torch.tensor(ours["mean"]))
        model.std.copy_(torch.tensor(ours["std"]))
    return model


def _check_kind(name: str, config: Any, ours: dict[str, Any] | None, *, steps: bool) -> None:
    """Refuse a model of steps where one of answers is asked for, and the other way round."""
    if ("process" in (ours or {})) is steps:
        return None if ours else _check_one_label(name, config)
    if steps:
        raise UserError(
            f"{name} does not judge steps. Give a process reward model, as `backflip train "
            "process_reward_model` makes it."
        )
    raise UserError(
        f"{name} is a process reward model: it judges steps, not whole answers. As a reward it is "
        f"reward={{name: process, model: {name}}}; else give a model of `backflip train "
        "reward_model`."
    )


def _marks_of_ours(config: Any) -> dict[str, Any] | None:
    """The entry of a reward model of ours in its config; None for any other classifier."""
    marks = getattr(config, "backflip", None)
    if not isinstance(marks, dict) or len(marks.get("mean", ())) != config.num_labels:
        return None
    return marks


def _check_one_label(name: str, config: Any) -> None:
    if config.num_labels == 1:
        return
    labels = ", ".join(str(label) for label in list(config.id2label.values())[:4])
    raise UserError(
        f"{name} is a classifier with {config.num_labels} labels ({labels}), which does not say "
        "what an answer is worth: a reward model has one. Give a classifier with num_labels=1, "
        "train one with `backflip train reward_model`, or in Python judge by a function of yours, "
        "bf.verifier(FUNCTION, MODEL)."
    )


def _check_linear_head(name: str, config: Any, classifier: Any) -> None:
    if isinstance(getattr(classifier, "score", None), nn.Linear):
        return
    raise UserError(
        f"{name} is a {architecture(config)}, whose head is not a linear layer called score, "
        "so it cannot be read as a reward model. Train one with `backflip train reward_model`, "
        "or in Python judge by a function of yours, bf.verifier(FUNCTION, MODEL)."
    )


def _reading(name: str, config: Any, marks: dict[str, Any], template: str | None) -> Reading:
    """Where the score is read: of ours, in the answer; of others, in their template's text."""
    padding = config.get_text_config().pad_token_id
    if marks:
        return Reading(padding if marks.get("reads") == LAST else None)
    found = template_of(load_tokenizer(name), template)
    if found is None:
        warnings.warn(
            f"{name} has no chat template that can be read, so its scores are read at the last "
            "token of each answer. Put the template that it was trained with into its tokenizer.",
            stacklevel=3,
        )
    return reading_of(found, padding)


@torch.no_grad()
def _check_agrees(name: str, model: RewardModel, classifier: Any) -> None:
    """Refuse a classifier that is not a linear layer on the token that is read here."""
    width = int(model.trunk.config.get_text_config().vocab_size)
    rows = [[(7 * i + 3 + row) % width for i in range(8)] for row in range(3)]
    padding = model.reading.padding
    rows += [] if padding is None else [[*rows[0][:5], padding, padding]]
    bare = replace(model.reading, end=())
    places = torch.tensor([bare.place(row) for row in rows])
    hidden = model.trunk(rows, torch.arange(len(rows)), places)
    here = model.score(hidden.to(model.score.weight.dtype)).float()
    classifier.eval()
    own = [classifier(torch.tensor([row], device=model.device)).logits.float() for row in rows]
    theirs = torch.cat(own).to(here.device)
    difference = float((here - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
    if not difference <= max(1e-3, 8 * torch.finfo(classifier.dtype).eps):
        raise UserError(
            f"{name} is a {architecture(model.trunk.config)} whose score is not a linear function "
            f"of the last token's state (it differs by {difference:.0%} of the largest), so it "
            "cannot be read as a reward model. Train one with `backflip train reward_model`."
        )


def _save(model: Any, tokenizer: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """The weights in ``dtype``, config and tokenizer, as plain transformers write them."""
    if dtype is None or dtype == model.dtype:
        with quiet():
            model.save_pretrained(folder)
    else:
        with quiet():
            model.save_pretrained(folder, state_dict=_cast(model.state_dict(), dtype))
        _amend(folder / "config.json", {"dtype": str(dtype).removeprefix("torch.")})
    tokenizer.save_pretrained(folder)


def _cast(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating point weights in another type; what shares its memory goes on sharing it."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    for tensor in state.values():
        if tensor.is_floating_point():
            key = (tensor.data_ptr(), tensor.shape)
            if key not in made:
                made[key] = tensor.to(dtype)
    return {
        name: made[tensor.data_ptr(), tensor.shape] if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _amend(path: Path, values: dict[str, Any]) -> None:
    """Set keys of a JSON file."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps(known | values, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
