"""The reference as a stage of the data: the right numbers, once."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from backflip.algorithms.preference.base import tell
from backflip.data.batches import ComparisonBatch, LabelledBatch, TokenSteps
from backflip.errors import UserError
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.models.lora import LoraSettings, add_lora
from backflip.training.reference import (
    check_same_vocabulary,
)
from backflip.training.reference_cache import ReferenceCache
from tests.models.every_family import tiny_of
from tests.models.families import FALLBACK, tiny
from tests.training.referenced import (
    adapted,
    comparisons,
    counted,
    labelled,
    naive,
    stated,
)


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache("little", folder=tmp_path / "reference")


@pytest.mark.parametrize("family", ["llama", "gpt2", *FALLBACK])
@pytest.mark.filterwarnings("ignore:.*cannot take the prefix forest")
def test_is_the_sum_over_the_answers_own_tokens(family):
    """Against one row at a time; the user's turns do not count."""
    data = comparisons(answers=3)
    model = tiny(family)
    expected = naive(model, data.answers.values, data.mask.values)
    whole = naive(model, data.answers.values, data.answers.values.mask)
    got = stated(data, CausalPolicy(model))
    torch.testing.assert_close(got.logp_ref.values, expected, atol=1e-4, rtol=0)
    assert (got.logp_ref.values - whole).abs().max() > 1, "the mask matters here"
    assert got.logp_ref.values.dtype == torch.float32
    assert not got.logp_ref.values.requires_grad
    assert torch.equal(got.logp_ref.offsets, data.answers.offsets)


@pytest.mark.filterwarnings("ignore:.*prefix forest")
@pytest.mark.parametrize("first", [True, False], ids=["LoRA first", "all weights first"])
def test_a_model_with_dropout_is_its_own_reference_with_lora_or_without(cache, first):
    """OPT drops a tenth by default; a cache that one run has filled serves the other."""
    data, model = comparisons(), tiny_of("opt")
    expected = naive(model, data.answers.values, data.mask.values)
    for lora in (first, not first):
        policy = copy.deepcopy(model).train()
        policy = CausalPolicy(add_lora(policy, LoraSettings(rank=2)) if lora else policy)
        got = stated(data, policy, cache=cache)
        torch.testing.assert_close(got.logp_ref.values, expected, atol=1e-4, rtol=0)
        again = naive_sums(policy, data)
        torch.testing.assert_close(again, expected, atol=1e-4, rtol=0)


def naive_sums(policy, data):
    logp = policy.evaluate(data.answers.values)["logp"].detach()
    return torch.where(data.mask.values, logp, 0.0).sum(-1)


def test_labelled_rows_get_both_numbers_of_their_own():
    data, model = labelled(), tiny("llama")
    got = stated(data, CausalPolicy(model))
    mismatched = naive(model, data.mismatched, data.mismatched_mask)
    torch.testing.assert_close(got.logp_ref, naive(model, data.steps, data.mask), atol=1e-4, rtol=0)
    torch.testing.assert_close(got.mismatched_ref, mismatched, atol=1e-4, rtol=0)
    assert not got.kl.any()


def test_mismatched_answers_may_be_wider_or_narrower():
    data = labelled()
    width = int(data.mismatched.answer.lengths.max())
    wider = dataclasses.replace(data.mismatched, width=width + 3)
    mask = torch.nn.functional.pad(data.mismatched_mask[:, :width], (0, 3))
    other = dataclasses.replace(data, mismatched=wider, mismatched_mask=mask)
    one, two = (stated(d, CausalPolicy(tiny("llama"))) for d in (data, other))
    assert torch.equal(one.mismatched_ref, two.mismatched_ref)
    assert torch.equal(one.logp_ref, two.logp_ref)


def test_answers_to_one_prompt_are_read_together():
    """The prompts of a labelled and of its mismatched answer are computed once."""
    prompt = list(range(3, 43))
    steps = TokenSteps.of([prompt] * 4, [[5, 6], [7, 8], [9, 10], [11, 12]])
    mask, ones = steps.mask, torch.ones(4)
    data = LabelledBatch(steps, mask, ones.bool(), ones, TokenSteps.of([prompt] * 4, [[13]] * 4),
                         torch.ones(4, 1, dtype=torch.bool))  # fmt: skip
    policy, calls = counted(CausalPolicy(tiny("llama")))
    stated(data, policy)
    assert calls == [5], "40 + 4 × 2 + 1 tokens fit in the budget of 64; the 4 equal ones are one"


def test_at_the_start_of_a_run_all_ratios_are_zero():
    data = comparisons()
    for policy in (CausalPolicy(tiny("llama")), adapted()):
        referenced = stated(data, policy)
        logp = policy.evaluate(data.answers.values)["logp"]
        torch.testing.assert_close(
            tell(logp, referenced).ratio.detach(), torch.zeros(24), atol=1e-4, rtol=0
        )


def test_adapters_switched_off_speak_for_the_base_model():
    data = comparisons()
    base = stated(data, CausalPolicy(tiny("llama"))).logp_ref.values
    trained = adapted(trained=True)
    torch.testing.assert_close(stated(data, AdaptersOff(trained)).logp_ref.values, base)
    assert (stated(data, trained).logp_ref.values - base).abs().max() > 0.1


def test_a_reference_is_replaced_by_a_new_one():
    first = stated(comparisons(), CausalPolicy(tiny("llama")))
    other = CausalPolicy(tiny("llama", seed=1))
    assert torch.equal(
        stated(first, other).logp_ref.values, stated(comparisons(), other).logp_ref.values
    )


def test_many_answers_go_in_windows_and_come_back_in_order(monkeypatch):
    data = comparisons(rows=20, answers=3)
    whole = stated(data, CausalPolicy(tiny("llama"))).logp_ref.values
    monkeypatch.setattr("backflip.training.reference.WINDOW", 7)
    in_pieces = stated(data, CausalPolicy(tiny("llama"))).logp_ref.values
    torch.testing.assert_close(in_pieces, whole, atol=1e-4, rtol=0)


def test_tokens_that_the_reference_does_not_know_are_refused():
    data = ComparisonBatch.of([[3, 61]], [[[4], [5]]], [[0, 1]])
    with pytest.raises(UserError, match="token 61, and the reference knows tokens up to 60"):
        stated(data, CausalPolicy(tiny("llama")))


def test_a_broken_reference_is_named_and_not_kept(cache):
    policy = CausalPolicy(tiny("llama"))
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite \(nan; .*precision=float32"):
        stated(comparisons(), policy, cache=cache)
    with cache.rows(policy) as rows:
        assert len(rows) == 0


class Words:
    def __init__(self, *words, special=()):
        self.words = (*words, *special)
        self.all_special_tokens = list(special)

    def get_vocab(self):
        return {word: number for number, word in enumerate(self.words)}


def test_another_vocabulary_is_refused():
    check_same_vocabulary(Words("a", "b"), Words("a", "b"), "it")
    with pytest.raises(UserError, match=r"ref/model has another tokenizer .*: 4 entries differ"):
        check_same_vocabulary(Words("a", "b", "c"), Words("a", "c", "b"), "ref/model")
    with pytest.raises(UserError, match="1 entries differ"):
        check_same_vocabulary(Words("a", "b"), Words("a", "b", "c"), "ref/model")


def test_padding_that_was_added_is_no_other_vocabulary():
    check_same_vocabulary(Words("a", "b"), Words("a", "b", special=["<pad>"]), "it")
