"""A tiny random model of every causal family of transformers that can be made tiny."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY, WINDOW = 97, 16
FAMILIES = list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
LARGEST = 5_000_000
"""Parameters: what cannot be made smaller than this stays out of a sweep."""
_TINY = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
    32: "hidden_size d_model n_embd dim emb_dim embedding_size lru_width word_embed_proj_dim",
    48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dff d_inner "
    "ffn_hidden_size intermediate_size_mlp",
    16: "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
    "moe_shared_expert_intermediate_size q_lora_rank kv_lora_rank qk_head_dim "
    "mamba_d_head mamba_head_dim attention_window_size sliding_window "
    "attention_chunk_size floor_scale",
    3: "num_hidden_layers n_layer n_layers num_layers",
    2: "decoder_layers encoder_layers num_key_value_heads num_experts_per_tok "
    "num_experts_per_token moe_top_k moe_k top_k_experts linear_num_key_heads "
    "eos_token_id",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads "
    "encoder_attention_heads num_experts num_local_experts n_routed_experts "
    "moe_num_experts state_size mamba_d_state mamba_n_heads mamba_num_heads "
    "time_step_rank mamba_dt_rank ssm_state_size linear_num_value_heads laurel_rank",
    8: "head_dim attention_head_dim kv_channels qk_rope_head_dim qk_nope_head_dim v_head_dim "
    "linear_key_head_dim linear_value_head_dim query_pre_attn_scalar "
    "hidden_size_per_layer_input",
    256: "max_position_embeddings n_positions max_seq_len n_ctx max_sequence_length "
    "max_target_positions",
    1: "n_group topk_group n_shared_experts first_k_dense_replace bos_token_id "
    "type_vocab_size decoder_start_token_id",
    0: "pad_token_id",
}
SIZES = {name: size for size, names in _TINY.items() for name in names.split()}


def _each(families: str, **given: object) -> dict[str, dict[str, object]]:
    return dict.fromkeys(families.split(), given)


_LATENT = {"head_dim": None, "num_key_value_heads": 4}
_INDEXED = _LATENT | {"index_topk": WINDOW, "index_n_heads": 2, "index_head_dim": 16}
_SLIDING = {
    "use_sliding_window": True,
    "sliding_window": WINDOW,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
}
_HYBRID = {
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
}
_OWN = {
    **_each("axk1 deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 youtu", **_LATENT),
    **_each("axk2 deepseek_v32 glm_moe_dsa", **_INDEXED),
    **_each("qwen2 qwen3 qwen2_moe qwen3_moe", **_SLIDING),
    **_each("qwen3_next qwen3_5_text qwen3_5_moe_text", **_HYBRID),
    **_each("gptj codegen", rotary_dim=8),
    **_each("bert roberta electra camembert xlm-roberta xlm-roberta-xl roformer", is_decoder=True),
    **_each("rembert megatron-bert big_bird data2vec-text ernie roc_bert", is_decoder=True),
    **_each("bert-generation roberta-prelayernorm xmod", is_decoder=True),
    "gpt_neo": {
        "attention_types": [[["global", "local"], 1]],
        "num_layers": 2,
        "window_size": WINDOW,
    },
    "doge": {"keep_window_size": WINDOW, "num_experts": 16},
    "gemma3n_text": {"activation_sparsity_pattern": None, "num_kv_shared_layers": 0},
    "bamba": {"attn_layer_indices": [1]},
    "nemotron": {"num_key_value_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "mamba2": {"num_heads": 8, "state_size": 8, "n_groups": 1},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_n_groups": 1},
}


def tiny_config(family: str, **more: object) -> PreTrainedConfig:
    """The family's default config with every size that it knows made small."""
    kind = CONFIG_MAPPING[family]
    default, other_names = kind().to_dict(), kind.attribute_map
    optional = {"n_inner", "pad_token_id", "q_lora_rank", "num_key_value_heads", "d_inner"}
    given = {}
    for name, size in SIZES.items():
        known = name in default and not (default[name] is None and name in optional)
        if known or (name in other_names and other_names[name] not in default.keys() & SIZES):
            given[name] = size
    given |= _OWN.get(family, {}) | more
    return kind(**{k: v for k, v in given.items() if (k, v) != ("head_dim", None)})


def tiny_of(family: str, seed: int = 0, **more: object) -> PreTrainedModel:
    """A random model of the family, with weights large enough that mistakes show.

    Raises whatever transformers makes of a config that cannot be made so small.
    """
    config = tiny_config(family, **more)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{family} has {size:,} parameters at least")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval().float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
        assert torch.isfinite(model(torch.tensor([[3, 4, 5, 6, 7]]), use_cache=False).logits).all()
    return model
