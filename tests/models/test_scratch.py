"""Models made from scratch: the same wherever they are made, and read character by character."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backflip.data.chat import ChatTemplate
from backflip.data.records import Message
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import suited
from backflip.generate.torch.engine import TorchEngine
from backflip.models.load import load_causal, load_tokenizer, resolve
from backflip.recipes.load import load_recipe


def test_the_same_weights_are_made_in_every_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / name))
        torch.manual_seed(len(made))
        made.append(load_causal("scratch:24x1").state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert resolve("scratch:24x1") == str(tmp_path / "two" / "scratch-24x1-1")


def test_a_token_is_a_character_and_an_answer_ends_where_the_template_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path))
    tokenizer, model = load_tokenizer("scratch:24x1"), load_causal("scratch:24x1")
    text = 'Sort: "9 1"\n{it}'
    assert [tokenizer.decode([token]) for token in tokenizer(text).input_ids] == list(text)
    template = ChatTemplate(tokenizer)
    tokens, learnt = template.conversation((Message("user", "1+2"), Message("assistant", "3")))
    own = [token for token, is_own in zip(tokens, learnt, strict=True) if is_own]
    assert tokenizer.decode(tokens) == "1+2\n3</s>"
    assert tokenizer.decode(own) == "3</s>"
    params = suited(SamplingParams(max_tokens=20), template, model)
    assert params.stop_tokens == (tokenizer.eos_token_id,)
    assert TorchEngine(model).slow_because is None


@pytest.mark.parametrize("name", ["scratch:97x3", "scratch:0x3", "scratch:96", "scratch:96x99"])
def test_sizes_that_cannot_be_are_refused(name: str):
    with pytest.raises(UserError, match="scratch:96x3"):
        resolve(name)


def test_published_rates_say_nothing_of_models_of_a_few_megabytes(tmp_path: Path):
    """A run of a tiny model counts as one too; what is larger, or not here, does not."""
    for folder, size in (("run/model", 10_000_000), ("large", 30_000_000)):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_bytes(bytes(size))
    given = {"scratch:24x1": 0, str(tmp_path / "run"): 0, str(tmp_path / "large"): 1, "a/b": 1}
    for model, notes in given.items():
        more = {"model": model, "reward": "exact", "lora": None, "optimizer.lr": 1e-4}
        said = [note for note in load_recipe("grpo", more).advice() if "optimizer.lr" in note]
        assert len(said) == notes
