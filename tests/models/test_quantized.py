"""Frozen bases in 4 and 8 bits: they say what their dequantised weights say, on every path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel

from backflip.data.batches import TokenSteps
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.models import quantized
from backflip.models.causal import CausalPolicy
from backflip.models.load import load_causal, parameter_count
from backflip.models.lora import LoraSettings, add_lora, merged
from backflip.models.save import save_policy
from tests.models.every_family import tiny_of
from tests.models.families import tiny

pytest.importorskip("bitsandbytes", reason="pip install 'backflip[quantized]'")
STEPS = TokenSteps.of([[3, 4, 5], [3, 4, 9, 10]], [[7, 8, 9, 2], [11, 12]])
NF4_WIDEST = 1 - 0.6961928
"""Between neighbouring levels: -1 and the next one (Dettmers et al., 2023, appendix E)."""


def stored(model: PreTrainedModel, folder: Path, **entries: Any) -> str:
    """The model on disk; ``entries``: of its config."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return str(folder)


def adapted(folder: Path, kind: str, family: str = "llama") -> Any:
    """A tiny model in few bits, with adapters that say something."""
    name = stored(tiny(family), folder)
    model = add_lora(load_causal(name, quantization=kind), LoraSettings(rank=4))  # pyright: ignore
    torch.manual_seed(1)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "lora_B" in path:
                parameter.normal_(std=0.2)
    return model


def logp(model: Any) -> torch.Tensor:
    return CausalPolicy(model).evaluate(STEPS)["logp"]


@pytest.mark.parametrize(("kind", "worst"), [("nf4", NF4_WIDEST / 2), ("int8", 0.5 / 127)])
def test_no_weight_moves_by_more_than_half_a_step(kind, worst, tmp_path):
    """Of its block of 64, or of its row; the scales themselves are rounded too, by below 1 %."""
    plain = tiny("llama")
    packed = load_causal(stored(plain, tmp_path), quantization=kind)
    for name, module in plain.named_modules():
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        weight = module.weight.detach()
        dense = quantized.dense(packed.get_submodule(name))
        moved = (dense - weight).abs()
        blocks = weight.abs().flatten().split(64) if kind == "nf4" else weight.abs()
        largest = torch.cat([block.amax().expand_as(block).flatten() for block in blocks])
        assert 0 < float((moved.flatten() / largest).max()) < worst + 0.01


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapted_base_says_what_its_dequantised_weights_say(kind, family, tokenizer, tmp_path):
    """These are what ``model/`` holds: read back by plain transformers, matrices turned or not."""
    model = adapted(tmp_path / "base", kind, family)
    save_policy(CausalPolicy(model), tokenizer, tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    assert getattr(plain.config, "quantization_config", None) is None
    difference = (logp(model) - logp(plain)).abs().max()
    assert float(difference.detach()) < 1e-3
    moved = (logp(model) - logp(tiny(family))).abs().max().detach()
    assert float(moved) > 0.1, "the adapters say nothing"


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_gradients_are_those_of_the_dequantised_weights(kind, tmp_path):
    """Also after a pass without a graph, behind which the library may pack weights another way."""
    model = adapted(tmp_path, kind)
    with torch.no_grad():
        before = logp(model)
    after = logp(model)
    torch.testing.assert_close(after.detach(), before, rtol=0, atol=1e-5)
    after.sum().backward()
    dense = merged(model)
    logp(dense).sum().backward()
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    whole = dense.model.layers[0].self_attn.q_proj.weight.grad
    for_b = whole @ layer.lora_A["default"].weight.T * layer.scaling["default"]
    torch.testing.assert_close(layer.lora_B["default"].weight.grad, for_b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_answers_have_the_log_probabilities_that_the_learner_gives_them(
    kind, tmp_path, monkeypatch
):
    """Drawn from a dequantised copy, or through the layers themselves where that has no room."""
    model = adapted(tmp_path, kind)
    policy, params = CausalPolicy(model), SamplingParams(max_tokens=6)

    def drawn(engine: TorchEngine) -> list[list[int]]:
        found = engine.generate([[3, 4, 5], [6, 7]], params, group=2)
        for one in found:
            prompt = [[3, 4, 5], [6, 7]][one.prompt_index]
            said = policy.evaluate(TokenSteps.of([prompt], [list(one.tokens)]))["logp"][0]
            torch.testing.assert_close(torch.tensor(one.logp), said.detach(), rtol=0, atol=1e-4)
        return [list(one.tokens) for one in found]

    engine = TorchEngine(model)
    tokens = drawn(engine)
    assert engine.slow_because is None
    assert engine._decoder is None, "the copy would take the room of learning"
    monkeypatch.setattr(quantized, "_free", lambda device: 1000)
    crowded = TorchEngine(model)
    with pytest.warns(UserWarning, match="a dequantised copy .* through the quantised layers"):
        assert drawn(crowded) == tokens
    assert "dequantised copy" in str(crowded.slow_because)


def test_two_numbers_to_the_byte_are_counted_as_two(tmp_path):
    name = stored(tiny("llama"), tmp_path)
    assert (
        parameter_count(load_causal(name, quantization="nf4"))[0]
        == parameter_count(load_causal(name))[0]
    )


def test_a_folder_that_is_in_4_bits_already_is_read_as_it_is(tmp_path):
    first = load_causal(stored(tiny("llama"), tmp_path / "plain"), quantization="nf4")
    first.save_pretrained(tmp_path / "packed")
    again = load_causal(str(tmp_path / "packed"), quantization="nf4")
    torch.testing.assert_close(logp(again), logp(first), rtol=0, atol=1e-5)
    with pytest.raises(
        UserError, match=r"int8, and the files .* in nf4 already. Set quantization="
    ):
        load_causal(str(tmp_path / "packed"), quantization="int8")


# ---- what is not supported is refused by name


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v3", "dbrx", "gpt_oss"])
def test_a_mixture_of_experts_is_not_held_in_few_bits(family):
    found = f"mixture of .* experts .{family}.*quantization of mixtures of experts is not supported"
    with pytest.raises(UserError, match=found):
        quantized.check("NAME", CONFIG_MAPPING[family](), "nf4")


def test_of_a_mixture_of_experts_in_wide_types_it_is_said_what_it_lacks(tmp_path):
    name = stored(tiny_of("mixtral"), tmp_path)
    said = list(quantized.remarks(name, load_causal(name)))
    assert len(said) == 1
    assert "no loss balances their load" in said[0]


@pytest.mark.parametrize("method", ["fp8", "gptq", "mxfp4"])
def test_files_in_another_type_are_refused_by_its_name(method, tmp_path):
    name = stored(tiny("llama"), tmp_path, quantization_config={"quant_method": method})
    with pytest.raises(UserError, match=f"is stored in {method.upper()}, which is not supported"):
        load_causal(name)


@pytest.mark.parametrize("kind", ["whisper", "qwen2_audio", "video_llava", "t5"])
def test_a_model_that_hears_sees_or_encodes_is_refused_by_its_name(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match=f"is a {kind}, .* audio, video") as error:
        load_causal(str(tmp_path))
    assert "\n" not in str(error.value)


def test_without_the_package_the_line_that_installs_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(quantized, "installed", lambda: False)
    with pytest.raises(UserError, match=r"bitsandbytes: pip install 'backflip\[quantized\]'"):
        load_causal(stored(tiny("llama"), tmp_path), quantization="nf4")
