"""From a name to a model: a folder, a hub name, ``smollm2``, or one from ``scratch``."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backflip.data.hub import hub_answers, hub_refusal, offline_variable
from backflip.distributed.world import here
from backflip.errors import UserError
from backflip.models import quantized, scratch, smollm2
from backflip.models.memory import keep_freed_memory
from backflip.models.quantized import Quantization
from backflip.progress import task

CLASSIFIER = "ForSequenceClassification"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Types of weights, by the names that recipes give them."""
SAFETENSORS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""The same, by their names in the files."""
POLICIES, REWARD_MODELS = ("online", "ppo", "direct", "sft"), ("reward_model",)
"""The stages of a chain that leave a language model behind, the last one first; and a judge."""


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder, a hub name or ``smollm2``."""
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, name)


def load_causal(
    name: str, *, precision: str = "auto", quantization: Quantization | None = None
) -> Any:
    """A causal language model, on CUDA where there is a device.

    ``precision``: float32, bfloat16, or auto (float32 on a CPU, bfloat16 on CUDA).
    ``quantization``: of its linear layers; files that are quantised already stay so.

    Raises:
        UserError: another kind of model, or one that cannot be held so.

    """
    from transformers import AutoModelForCausalLM

    config = load_config(name)
    check_language_model(name, config)
    packed = quantized.check(name, config, quantization)
    keep_freed_memory()
    dtype = dtype_of(precision)
    if not packed:
        return _load(AutoModelForCausalLM, name, dtype=dtype).to(device())
    made: dict[str, Any] = {"dtype": dtype, "device_map": {"": str(device())}}
    if quantization and not quantized.stored(config):
        made["quantization_config"] = quantized.settings(quantization, dtype)
    quantized.check_device(device())
    model = _load(AutoModelForCausalLM, name, **made)
    quantized.settle(model, dtype)
    return model


def check_language_model(name: str, config: Any) -> None:
    """Raises UserError for a config of something that does not write text."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    kind = architecture(config)
    if kind.endswith(CLASSIFIER):
        raise UserError(
            f"{name} is a {kind}: a reward model, not a language model. "
            "Give the model that is to write, for example the folder of an SFT run."
        )
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or hasattr(config, "auto_map")
    if not known or config.is_encoder_decoder:
        raise UserError(
            f"{name} is a {config.model_type}, which is no causal language model. Models of audio, "
            "video or pictures, and those with an encoder, are not supported: give one that only "
            "writes."
        )


def masters(precision: str, *, adapted: bool) -> tuple[str, torch.dtype | None]:
    """(precision of the weights, type to multiply in) of a model that is to be trained.

    Weights that learn are float32: in bfloat16 a step below 1/256 of a weight is lost. With LoRA
    (``adapted``) only the adapters learn, which peft keeps in float32 by itself.
    """
    if adapted or dtype_of(precision) == torch.float32:
        return precision, None
    return "float32", dtype_of(precision)


def load_classifier(name: str, *, precision: str = "auto") -> Any:
    """A sequence classifier: what a reward model is on disk."""
    from transformers import AutoModelForSequenceClassification

    if quantized.check(name, load_config(name, of=REWARD_MODELS), None):
        raise UserError(
            f"{name} is a reward model in {quantized.stored(load_config(name, of=REWARD_MODELS))}. "
            "Reward models are read in 16 or 32 bits: give one that is not quantised."
        )
    keep_freed_memory()
    dtype = dtype_of(precision)
    model = _load(AutoModelForSequenceClassification, name, of=REWARD_MODELS, dtype=dtype)
    return model.to(device())


def load_config(name: str, *, of: tuple[str, ...] = POLICIES) -> Any:
    """The configuration alone: sizes without weights. ``of`` as in ``resolve``."""
    from transformers import AutoConfig

    return _load(AutoConfig, name, of=of)


def architecture(config: Any) -> str:
    """Name of the class that a model was saved from; ``model`` where it does not say."""
    return str((config.architectures or ["model"])[0])


def parameters_of(name: str) -> int:
    """How many parameters a language model has, without loading its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_config(name))
    return parameter_count(model)[0]


def parameter_count(model: nn.Module) -> tuple[int, int]:
    """(all, trainable) parameters."""
    total = sum(quantized.size(p) for p in model.parameters())
    return total, sum(p.numel() for p in model.parameters() if p.requires_grad)


def check_classifier(name: str) -> Any:
    """The config of a sequence classifier. Raises UserError where ``name`` is something else."""
    config = load_config(name, of=REWARD_MODELS)
    kind = architecture(config)
    if not kind.endswith(CLASSIFIER):
        raise UserError(
            f"{name} is a {kind}, not a reward model. "
            "Train one with `backflip train reward_model`, or give a sequence classifier."
        )
    return config


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(precision: str) -> torch.dtype:
    if precision == "auto":
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return DTYPES[precision]


def dtype_on_disk(name: str) -> torch.dtype | None:
    """Type of most of a model's weights as their files have them; None where it cannot be told."""
    from huggingface_hub import try_to_load_from_cache

    source, counts = resolve(name), Counter[str]()
    if Path(source).is_dir():
        files = sorted(Path(source).glob("*.safetensors"))
    else:
        found = try_to_load_from_cache(source, "config.json")
        files = sorted(Path(found).parent.glob("*.safetensors")) if isinstance(found, str) else []
    for file in files:
        with file.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        for tensor in header.values():
            counts[tensor.get("dtype", "")] += math.prod(tensor.get("shape", (0,)))
    known = {name: n for name, n in counts.items() if name in SAFETENSORS}
    if known:
        return SAFETENSORS[max(known, key=lambda name: known[name])]
    stated = getattr(load_config(name), "dtype", None)
    return stated if isinstance(stated, torch.dtype) else None


def resolve(name: str, *, of: tuple[str, ...] = POLICIES) -> str:
    """A folder or hub name that transformers can load without waiting for a dead network.

    ``of``: the stages of a chain whose model is wanted, where its folder is named.
    """
    if name == smollm2.NAME:
        return here().once(smollm2.find)
    if scratch.is_one(name):
        with quiet():
            return here().once(lambda: scratch.find(name))
    path = Path(name).expanduser()
    if path.is_dir():
        found = model_folder(path, of=of)
        if found is None:
            raise UserError(f"{path} has no config.json, so it is no model; seen: {_seen(path)}.")
        return str(found)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"there is no model {name!r}: no such folder, and a hub name looks like owner/name. "
            f"Give one of these, {smollm2.NAME}, or {scratch.NAME}."
        )
    return name


def model_folder(folder: Path, *, of: tuple[str, ...] = POLICIES) -> Path | None:
    """The model in a folder: itself, a run's, or that of the last stage of a chain.

    None where there is neither a model nor a run. Raises UserError where a run has none yet.
    """
    if (folder / "config.json").is_file():
        return folder
    for inner in (folder / "model", *(folder / stage / "model" for stage in (*of, *REWARD_MODELS))):
        if (inner / "config.json").is_file():
            return inner
    if (folder / "recipe.yaml").is_file():
        raise UserError(f"the run {folder} has no model yet. Finish it: backflip resume {folder}")
    return None


def _load(auto: Any, name: str, *, of: tuple[str, ...] = POLICIES, **settings: Any) -> Any:
    source = resolve(name, of=of)
    local, shown = Path(source).is_dir(), Path(name).name
    try:
        with quiet():
            if local or _cached(source):
                try:
                    with task(f"loading {shown}"):
                        return auto.from_pretrained(source, **settings, local_files_only=True)
                except OSError:
                    if local:
                        raise  # else the config alone is in the cache, and the rest is to come
            if offline_variable() or not hub_answers():
                raise UserError(hub_refusal("model", name))
            with task(f"downloading {shown}", None, "bytes", position=lambda: _fetched(source)):
                return auto.from_pretrained(source, **settings)
    except UserError:
        raise
    except Exception as error:  # whatever transformers makes of a broken folder or a wrong name
        if not local:
            raise UserError(hub_refusal("model", name, error)) from error
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
        raise UserError(f"{name} could not be loaded ({type(error).__name__}): {first}") from error


def _cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _fetched(name: str) -> int:
    """Bytes of a hub model that lie in the cache by now, those of a file on its way included."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
    return sum(path.stat().st_size for path in folder.glob("*")) if folder.is_dir() else 0


def _seen(path: Path) -> str:
    names = sorted(p.name for p in path.iterdir())[:8]
    return ", ".join(names) if names else "an empty folder"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars over milliseconds, no advice meant for other people."""
    from transformers.utils import logging as hf

    level = hf.get_verbosity()
    hf.set_verbosity_error()
    hf.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        hf.set_verbosity(level)
        hf.enable_progress_bar()
