"""The average of models is a model, tensor by tensor."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from backflip.errors import UserError
from backflip.models.average import average
from tests.models.families import tiny


@pytest.fixture
def saved(tokenizer, tmp_path):
    def save(name, seed=0, family="llama", dtype=torch.float32, **settings):
        model = tiny(family, seed)
        model.config = copy.deepcopy(model.config)  # saving writes into it, and tests share it
        model = model.to(dtype)
        model.save_pretrained(tmp_path / name, **settings)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name, model

    return save


def test_every_parameter_is_the_weighted_mean(saved, tmp_path):
    """Weights 1 and 3, the second model in several files, the first in one."""
    (one, a), (two, b) = saved("one", 0), saved("two", 1, max_shard_size="20KB")
    assert (two / "model.safetensors.index.json").is_file()
    path = average([one, two], tmp_path / "out", weights=[1.0, 3.0])
    mean = AutoModelForCausalLM.from_pretrained(path).state_dict()
    for name, tensor in a.state_dict().items():
        torch.testing.assert_close(mean[name], (tensor + 3 * b.state_dict()[name]) / 4)
    assert (path / "tokenizer.json").is_file()
    assert not (path / "model.safetensors.index.json").is_file()


def test_shards_are_those_of_the_first_model(saved, tmp_path):
    (one, a), (two, b) = saved("one", 0, max_shard_size="20KB"), saved("two", 1)
    path = average([one, two], tmp_path / "out")
    assert sorted(p.name for p in path.glob("*.safetensors")) == sorted(
        p.name for p in one.glob("*.safetensors")
    )
    tokens = torch.tensor([[5, 6, 7]])
    for parameter, other in zip(a.parameters(), b.parameters(), strict=True):
        parameter.data.lerp_(other.data, 0.5)
    again = AutoModelForCausalLM.from_pretrained(path)
    torch.testing.assert_close(again(tokens).logits, a(tokens).logits, atol=1e-4, rtol=1e-4)


def test_sums_are_taken_in_float32(saved, tmp_path):
    """The mean of three bfloat16 models is rounded once, at the end."""
    made = [saved(name, seed, dtype=torch.bfloat16) for seed, name in enumerate("abc")]
    path = average([folder for folder, _ in made], tmp_path / "out")
    mean = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    assert mean.dtype == torch.bfloat16
    for name, tensor in mean.state_dict().items():
        exact = torch.stack([model.state_dict()[name].double() for _, model in made]).mean(0)
        assert (tensor == exact.bfloat16()).float().mean() > 0.95, name


def test_the_folder_of_a_run_stands_for_its_model(saved, tmp_path):
    (one, _), (two, b) = saved("run/model", 1), saved("two", 1)
    mean = AutoModelForCausalLM.from_pretrained(average([one.parent, two], tmp_path / "out"))
    torch.testing.assert_close(mean.state_dict(), b.state_dict())


def test_what_cannot_be_averaged_is_named(saved, tmp_path):
    (one, _), (two, _), (other, _) = saved("one"), saved("two", 1), saved("other", family="gpt2")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"configs differ in .*model_type"):
        average([one, other], out)
    with pytest.raises(UserError, match="at least two models, 1 given"):
        average([one], out)
    with pytest.raises(UserError, match="3 weights for 2 models"):
        average([one, two], out, weights=[1.0, 1.0, 1.0])
    with pytest.raises(UserError, match="above 0"):
        average([one, two], out, weights=[1.0, 0.0])
    words = json.loads((two / "tokenizer.json").read_text())
    words["added_tokens"] = words.get("added_tokens", [])[:-1]
    (two / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match="tokenizers differ"):
        average([one, two], out)
    assert not out.exists()


def test_tensors_of_another_shape_are_named_and_nothing_is_written(saved, tmp_path):
    """A config that lies about the weights beside it."""
    (one, _), (two, model) = saved("one"), saved("two", 1)
    model.resize_token_embeddings(70)
    model.save_pretrained(two)
    (two / "config.json").write_text((one / "config.json").read_text())
    with pytest.raises(UserError, match=r"\[61, 32\] in one and \[70, 32\] in the other"):
        average([one, two], tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()
