"""Tiny models of every family that the forest is promised for, made on the spot."""

from __future__ import annotations

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 61
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_WINDOW = {
    "head_dim": 8,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
CONFIGS = {
    "llama": LlamaConfig(**_SMALL),
    "qwen2": Qwen2Config(**_SMALL),
    "qwen3": Qwen3Config(**_SMALL, head_dim=8),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=128,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gemma2": Gemma2Config(
        **_SMALL,
        **_WINDOW,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=8,
    ),
    "gemma3": Gemma3TextConfig(**_SMALL, **_WINDOW, query_pre_attn_scalar=8),
}
FALLBACK = {
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
}
# Models that multiply or divide their logits behind the vocabulary head.
SCALED = {
    "cohere": CohereConfig(**_SMALL, logit_scale=0.25),
    "granite": GraniteConfig(**_SMALL, logits_scaling=4.0, attention_multiplier=0.3),
}


def tiny(family: str, seed: int = 0) -> PreTrainedModel:
    """A random model of the family, with weights large enough that mistakes show."""
    torch.manual_seed(seed)
    config = (CONFIGS | FALLBACK | SCALED)[family]
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
            elif "norm" in name or "ln" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()
