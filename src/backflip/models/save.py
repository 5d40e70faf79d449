"""From a trained model to a plain Hugging Face folder, and back for reward models."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from backflip.data.errors import UserError
from backflip.models.causal import CausalPolicy, is_adapted
from backflip.models.heads import RewardModel
from backflip.models.load import architecture, check_classifier, load_classifier, quiet
from backflip.models.lora import merged


def save_policy(policy: CausalPolicy, tokenizer: Any, folder: Path) -> None:
    """Write ``folder``/model, and ``folder``/adapter beside it where there are adapters."""
    if is_adapted(policy.model):
        written_whole(folder / "adapter", policy.model.save_pretrained)
    plain = merged(policy.model)
    written_whole(folder / "model", lambda tmp: _save(plain, tokenizer, tmp))


def save_reward_model(model: RewardModel, tokenizer: Any, folder: Path) -> None:
    """Write ``folder``/model as a sequence classifier: its logits are the raw scores.

    The scale (mean and std of each head) and the pooling stand in the config under ``backflip``.
    """
    if is_adapted(model.trunk.model):
        adapted: Any = model.trunk.model
        written_whole(folder / "adapter", adapted.save_pretrained)
    plain = merged(model.trunk.model)
    config = type(plain.config).from_dict(plain.config.to_dict())
    config.num_labels = model.heads
    config.pad_token_id = padding_token(tokenizer, config)
    config.backflip = {
        "mean": model.mean.tolist(),
        "std": model.std.tolist(),
        "pooling": model.pooling,
    }
    classifier = _empty_classifier(config, plain.dtype)
    body = {
        f"{classifier.base_model_prefix}.{k}": v for k, v in plain.base_model.state_dict().items()
    }
    state = {**body, "score.weight": model.score.weight.detach().to(plain.dtype)}
    classifier.load_state_dict(state, assign=True, strict=False)
    written_whole(folder / "model", lambda tmp: _save(classifier, tokenizer, tmp))


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


def load_reward_model(name: str, *, precision: str = "auto") -> RewardModel:
    """A reward model of ours, or any sequence classifier of transformers that ends in ``score``."""
    config = check_classifier(name)
    ours = getattr(config, "backflip", None) or {}
    classifier = load_classifier(name, precision=precision)
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        raise UserError(
            f"{name} is a {architecture(config)}, whose head is not a linear layer called score, "
            "so it cannot be read as a reward model. Train one with `backflip train reward_model`."
        )
    model = RewardModel(
        classifier, heads=int(config.num_labels), pooling=ours.get("pooling", "last")
    )
    with torch.no_grad():
        model.score.weight.copy_(classifier.score.weight)
        if ours:
            model.mean.copy_(torch.tensor(ours["mean"]))
            model.std.copy_(torch.tensor(ours["std"]))
    return model


def padding_token(tokenizer: Any, config: Any) -> int:
    """A token that never ends an answer.

    Classifiers of transformers read the last token that is not padding: were padding the end of
    turn, as in many tokenizers, they would read one token too early.
    """
    ends = {tokenizer.eos_token_id, *_as_list(config.eos_token_id)}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return int(tokenizer.pad_token_id)
    candidates = [tokenizer.unk_token_id, *tokenizer.all_special_ids]
    return int(next((t for t in candidates if t is not None and t not in ends), 0))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _save(model: nn.Module, tokenizer: Any, folder: Path) -> None:
    with quiet():
        model.save_pretrained(folder)  # pyright: ignore
    tokenizer.save_pretrained(folder)


def written_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Write beside the folder and rename: what bears the name is complete.

    Whatever goes wrong, the temporary folder goes, and what bore the name before stays.

    Raises:
        UserError: the disk is full, or may not be written to.

    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
        ) as beside:
            new, old = Path(beside) / "new", Path(beside) / "old"
            new.mkdir()
            write(new)
            _replace(folder, new, old)
    except Exception as error:
        if not _by_disk(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(
            f"{folder} could not be written: {reason}. Set that right (free some space), then: "
            f"backflip resume {shlex.quote(str(folder.parent))}"
        ) from error


def _replace(folder: Path, new: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _by_disk(error: Exception) -> bool:
    """Whether the system refused to write: safetensors and tokenizers say so in their own ways."""
    return isinstance(error, OSError | SafetensorError) or "(os error " in str(error)
