"""Beyond windows and changes of position a row counts as if it were read alone, by transformers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    MptConfig,
    Phi3Config,
    PreTrainedModel,
)

from backflip.data.batches import TokenSteps
from backflip.errors import UserError
from backflip.models import probing
from backflip.models.attention import FAR, Sight, sight_of
from backflip.models.causal import CausalPolicy
from backflip.models.heads import RewardModel
from tests.models.every_family import FAMILIES, VOCABULARY, WINDOW, tiny_of
from tests.models.families import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*prefix forest")
TOLERANCE = {"atol": 1e-4, "rtol": 0}
SWITCH = 24
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def rope(kind: str, **more: object) -> dict[str, object]:
    return {"rope_type": kind, "rope_theta": 1e4, **more}


LONG = rope(
    "longrope",
    short_factor=[1.0] * 4,
    long_factor=[4.0] * 4,
    original_max_position_embeddings=SWITCH,
)
CHANGING = {
    "longrope": Phi3Config(**SMALL, original_max_position_embeddings=SWITCH, rope_parameters=LONG),
    "dynamic": LlamaConfig(
        **SMALL, max_position_embeddings=SWITCH, rope_parameters=rope("dynamic", factor=4.0)
    ),
}
FIXED = {
    "yarn": LlamaConfig(
        **SMALL,
        rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=SWITCH),
    ),
    "llama3": LlamaConfig(
        **SMALL,
        rope_parameters=rope(
            "llama3",
            factor=4.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=SWITCH,
        ),
    ),
    "alibi": MptConfig(vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4),
}
QUICK = ["phimoe", "qwen2_moe", "doge", "llama4_text", "gpt_oss", "cohere2", "gpt_neo", "xglm"]


def random_weights(model: PreTrainedModel) -> PreTrainedModel:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    return model.eval()


def rows(*, short_first: bool = False) -> TokenSteps:
    """A shared prompt beyond every window, answers of many lengths, and one short row."""
    generator = torch.Generator().manual_seed(1)

    def words(n: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()

    long, short = words(30), words(6)
    both = [(long, words(5)), (long, words(20)), (long, words(40)), (short, words(3))]
    both = both[::-1] if short_first else both
    return TokenSteps.of([p for p, _ in both], [a for _, a in both])


def alone(model: nn.Module, steps: TokenSteps) -> Tensor:
    """Each row by a fresh copy of the model, so that none hears of another."""
    out = torch.zeros(len(steps), steps.width)
    for row in range(len(steps)):
        tokens, start = torch.tensor([steps.sequence(row)]), int(steps.prompt.lengths[row])
        logits = copy.deepcopy(model)(input_ids=tokens, use_cache=False).logits
        logp = logits[0, start - 1 : -1].float().log_softmax(-1)
        out[row, : len(logp)] = logp.gather(1, tokens[0, start:, None])[:, 0]
    return out


@torch.no_grad()
def check(model: PreTrainedModel) -> CausalPolicy:
    steps, plain = rows(), copy.deepcopy(model)
    policy = CausalPolicy(model)
    for given in (steps, rows(short_first=True)):
        torch.testing.assert_close(policy.evaluate(given)["logp"], alone(plain, given), **TOLERANCE)
    return policy


@pytest.mark.parametrize("family", QUICK)
def test_a_row_beyond_the_window_is_read_as_transformers_reads_it(family):
    check(tiny_of(family))


@pytest.mark.slow
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "kimi_linear"])  # minutes each
def test_every_family_reads_long_rows_as_transformers_does(family):
    """What cannot be made tiny, or is refused in words, is skipped and says why."""
    try:
        model = tiny_of(family)
    except Exception as error:
        pytest.skip(f"{family} cannot be made tiny: {error}")
    try:
        CausalPolicy(copy.deepcopy(model))
    except UserError as error:
        pytest.skip(f"{family} is refused: {error}")
    check(model)


@pytest.mark.parametrize("kind", [*CHANGING, *FIXED])
def test_no_row_changes_the_positions_of_another(kind):
    check(random_weights(AutoModelForCausalLM.from_config((CHANGING | FIXED)[kind])))


@pytest.mark.parametrize("kind", CHANGING)
def test_a_row_of_exactly_the_last_length_is_short(kind):
    """Dynamic rope of transformers keeps what a longer row has left behind at this one length."""
    model = random_weights(AutoModelForCausalLM.from_config(CHANGING[kind]))
    plain, policy = copy.deepcopy(model), CausalPolicy(model)
    steps = TokenSteps.of([[*range(3, 3 + SWITCH - 4)]], [[5, 6, 7, 8]])
    with torch.no_grad():
        policy.evaluate(rows())
        torch.testing.assert_close(policy.evaluate(steps)["logp"], alone(plain, steps), **TOLERANCE)


def test_scores_are_read_as_alone_too():
    model = random_weights(AutoModelForCausalLM.from_config(CHANGING["dynamic"]))
    steps, reward = rows(), RewardModel(copy.deepcopy(model))
    with torch.no_grad():
        for row, score in enumerate(reward.raw_scores(steps)):
            tokens = torch.tensor([steps.sequence(row)])
            hidden = copy.deepcopy(model).base_model(input_ids=tokens).last_hidden_state[0, -1]
            torch.testing.assert_close(score, reward.score(hidden), **TOLERANCE)


def test_windows_in_the_mask_alone_reach_the_forest():
    """The fast way is not lost: what the mask says is heeded in the forest itself."""
    for family in ("qwen2_moe", "phimoe", "llama4_text"):
        assert CausalPolicy(tiny_of(family)).trunk.forest, family
    full = {"use_sliding_window": False, "layer_types": ["full_attention"] * 3}
    assert CausalPolicy(tiny_of("qwen2_moe", **full)).trunk.forest, "it makes a mask of width 0"


def test_the_probe_is_short_and_leaves_no_trace(monkeypatch):
    """However wide the window is, some 50 tokens are read; then all is as it was."""
    model = tiny_of("qwen2_moe", sliding_window=4096)
    before = [dict(vars(m)) for m in model.modules()], model.config.to_dict()
    seen = []
    model.model.register_forward_hook(
        lambda _, args, kwargs, out: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    CausalPolicy(model)
    after = [dict(vars(m)) for m in model.modules()], model.config.to_dict()
    assert max(seen) <= 64
    assert before[1] == after[1]
    names = ("sliding_window", "training", "layer_idx")
    for one, other in zip(before[0], after[0], strict=True):
        assert all(one.get(name) == other.get(name) for name in names)


def test_a_window_that_the_probe_shortens_is_found_out():
    """Doge picks the keys of its window in a way of its own: no forest, and no padding."""
    model = tiny_of("doge", keep_window_size=2048, sliding_window=None)
    assert CausalPolicy(model).trunk.way == "alone"


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_of("gemma3_text", use_bidirectional_attention=True),
        lambda: AutoModelForCausalLM.from_config(BertConfig(**SMALL)),
        lambda: tiny_of("xlnet"),
    ],
    ids=["gemma3", "bert", "xlnet"],
)
def test_what_sees_the_future_is_refused(make):
    with pytest.raises(UserError, match="lets a token see the tokens behind it") as error:
        CausalPolicy(make())
    assert "\n" not in str(error.value)


def test_a_forward_pass_of_an_unknown_kind_is_refused_in_words(monkeypatch):
    model = tiny("llama")
    monkeypatch.setattr(model.model, "forward", lambda **_: None)
    with pytest.raises(UserError, match="llama cannot be read as a language model here") as error:
        CausalPolicy(model)
    assert "\n" not in str(error.value)


def test_a_row_beyond_learnt_positions_is_refused():
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=20)
    policy = CausalPolicy(AutoModelForCausalLM.from_config(config))
    with pytest.raises(UserError, match="row of 70 tokens goes beyond the 20 positions"):
        policy.evaluate(rows())


@pytest.mark.parametrize("size", [3, 8, 40])
def test_a_mask_function_is_recognised_by_what_it_shows(size):
    from transformers import masking_utils as masks

    zeros = torch.zeros(1, dtype=torch.long)
    window = masks.sliding_window_causal_mask_function(size)
    chunk = masks.chunked_causal_mask_function(size, zeros)
    assert sight_of(masks.causal_mask_function, None, 30) == FAR
    assert sight_of(window, size, 30) == (Sight(window=size) if size < 30 else FAR)
    assert sight_of(chunk, size, 30) == (Sight(chunk=size) if size < 30 else FAR)
    for other in (
        masks.bidirectional_mask_function,
        masks.sliding_window_bidirectional_mask_function(size),
    ):
        with pytest.raises(ValueError, match="neither causal"):
            sight_of(other, size, 30)


def test_shortened_windows_come_back_after_an_error():
    model = tiny_of("phimoe")

    def fail():
        with probing.shortened(model):
            assert model.config.sliding_window == probing.SHORT
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert model.config.sliding_window == WINDOW
