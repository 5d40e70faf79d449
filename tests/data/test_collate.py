"""Tokens of whole datasets: what fits, what is left out, and in which order it is learnt."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backflip.data.chat import ChatTemplate
from backflip.data.collate import (
    Fit,
    tokenize_comparisons,
    tokenize_demonstrations,
    tokenize_prompts,
    with_head,
)
from backflip.data.formats import load
from backflip.data.ragged import Ragged
from backflip.data.records import Comparison, Demonstration, Prompt, Provenance, messages
from backflip.data.stream import Batches
from backflip.errors import UserError

ASKED = messages(("user", "Is it late? " * 5))
GOOD, BAD = messages(("assistant", "Yes, go to bed.")), messages(("assistant", "No."))
TALK = messages(("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye."), ("assistant", "So long."))


@pytest.fixture
def template(tokenizers):
    return ChatTemplate(tokenizers["chatml"])


def numbers(n):
    return Ragged.of([[row] for row in range(n)])


def seen(batches):
    return [batch.values.tolist() for batch in batches]


def test_a_comparison_keeps_its_answers_and_ranks_in_order(template):
    three = Comparison(ASKED, (BAD, GOOD, messages(("assistant", "So?"))), (1, 0, 1), margin=0.5)
    pair = Comparison(TALK[:1], (GOOD, BAD), (0, 1), soft=0.75, weight=2.0)
    data = tokenize_comparisons([three, pair], template).data
    assert [row.tolist() for row in data.rank.rows()] == [[1, 0, 1], [0, 1]]
    assert (data.margin.tolist(), data.soft.tolist(), data.weight.tolist()) == (
        [0.5, 0.0],
        [1.0, 0.75],
        [1.0, 2.0],
    )
    steps = data.answers.values
    assert [steps.sequence(i) for i in range(5)] == [
        [token for part in template.answer(record.prompt, answer)[:2] for token in part]
        for record in (three, pair)
        for answer in record.answers
    ]


def test_a_picked_row_of_comparisons_brings_its_own_answers(template):
    records = [Comparison(TALK[:1], (GOOD, BAD), (0, 1)), Comparison(ASKED, (BAD, GOOD), (1, 0))]
    data = tokenize_comparisons(records, template).data
    row = data[torch.tensor([1])]
    assert row.answers.values.sequence(1) == data.answers.values.sequence(3)
    assert with_head(data, torch.tensor([0, 1]))[torch.tensor([1])].head.tolist() == [1]


def test_demonstrations_learn_all_turns_or_the_last(template):
    record = Demonstration(TALK, weight=0.5)
    both = tokenize_demonstrations([record], template).data
    last = tokenize_demonstrations([record], template, turns="last").data
    ids, mask = template.conversation(TALK)
    assert both.steps.sequence(0) == last.steps.sequence(0) == ids
    assert int(both.mask.sum()) == sum(mask)
    assert int(last.mask.sum()) == len(last.steps.answer.row(0)) < int(both.mask.sum())
    assert both.weight.tolist() == [0.5]
    with pytest.raises(UserError, match="turns='first' is not known; use all or last"):
        tokenize_demonstrations([record], template, turns="first")


def test_what_is_too_long_is_dropped_and_counted_or_loses_the_start_of_its_prompt(template):
    records = [
        Comparison(ASKED, (BAD, GOOD), (1, 0), where=Provenance("a", 1)),
        Comparison(TALK[:1], (GOOD, BAD), (0, 1), where=Provenance("a", 2)),
    ]
    whole = tokenize_comparisons(records, template)
    lengths = whole.data.answers.values.prompt.lengths + whole.data.answers.values.answer.lengths
    limit = int(lengths[1]) - 3
    assert int(lengths[0]) <= limit, "only the longer answer must be too long"

    dropped = tokenize_comparisons(records, template, fit=Fit(limit))
    assert dropped.kept == (1,)
    assert dropped.dropped.lines() == [f"1 × longer than {limit} tokens (e.g. a:1)"]

    cut = tokenize_comparisons(records, template, fit=Fit(limit, "cut"))
    assert (cut.kept, cut.cut) == ((0, 1), 1)
    before, after = whole.data.answers.values, cut.data.answers.values
    assert [row.tolist() for row in after.answer.rows()] == [
        row.tolist() for row in before.answer.rows()
    ], "an answer lost tokens"
    assert after.prompt.row(0).tolist() == before.prompt.row(0).tolist()[3:]
    assert after.prompt.row(1).tolist() == after.prompt.row(0).tolist(), "the prompt is shared"


def test_a_cut_prompt_keeps_its_beginning_of_sequence(tokenizers):
    template = ChatTemplate(tokenizers["gemma"])
    bos = tokenizers["gemma"].bos_token_id
    whole = template.prompt(ASKED)
    limit = len(whole) - 4
    row = tokenize_prompts([Prompt(ASKED)], template, fit=Fit(limit, "cut")).data.row(0).tolist()
    assert row == [bos, *whole[5:]]
    assert len(row) == limit


def test_an_answer_that_fills_the_length_alone_is_never_cut(template):
    records = [Demonstration(TALK[:2]), Demonstration(ASKED + messages(("assistant", "So. " * 30)))]
    result = tokenize_demonstrations(records, template, fit=Fit(40, "cut"))
    assert result.dropped.counts == {"answer alone fills 40 tokens": 1}


def test_answers_that_became_the_same_tokens_are_left_out_and_counted(tokenizers):
    """Gemma's template trims, so a space at the end makes no difference to the model."""
    template = ChatTemplate(tokenizers["gemma"])
    twins = Comparison(ASKED, (GOOD, messages(("assistant", "Yes, go to bed. "))), (0, 1))
    result = tokenize_comparisons([twins, Comparison(ASKED, (GOOD, BAD), (0, 1))], template)
    assert result.kept == (1,)
    assert result.dropped.counts == {"answers identical as tokens": 1}


def test_what_the_template_refuses_is_counted_under_its_words(tokenizers):
    template = ChatTemplate(tokenizers["mistral"])
    twice = messages(("user", "One."), ("user", "Two."))
    prompts = tokenize_prompts([Prompt(twice), Prompt(TALK[:1])], template)
    assert prompts.kept == (1,)
    assert "roles must alternate" in next(iter(prompts.dropped))
    with pytest.raises(UserError, match=r"no prompt out of 1 is left.*roles must alternate"):
        tokenize_prompts([Prompt(twice)], template)


def test_bad_settings_are_refused_before_any_work():
    with pytest.raises(UserError, match="max_length is 1"):
        Fit(1)
    with pytest.raises(UserError, match="too_long='truncate' is not known; use drop or cut"):
        Fit(9, "truncate")


def test_a_batch_is_as_wide_as_its_own_longest_answer(template):
    long = messages(("assistant", "So. " * 30))
    records = [Demonstration(ASKED + GOOD), Demonstration(ASKED + long)]
    data = tokenize_demonstrations(records, template).data
    for batch in Batches(data, size=1):
        assert batch.steps.width == batch.mask.shape[1] == int(batch.steps.answer.lengths[0])
        assert bool(batch.mask.all())


@given(rows=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 9))
def test_every_epoch_holds_every_row_once(rows, size, seed):
    batches = seen(Batches(numbers(rows), size=size, seed=seed, epochs=2))
    assert len(batches) == 2 * -(-rows // size)
    for epoch in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        assert sorted(row for batch in epoch for row in batch) == list(range(rows))


@given(stop=st.integers(0, 11), size=st.integers(1, 5))
def test_a_restored_iterator_goes_on_with_the_very_next_batch(stop, size):
    """Also from the last batch of an epoch on, which is where counters slip."""
    options = {"size": size, "seed": 3, "epochs": 3}
    uncut = seen(Batches(numbers(9), **options))
    first = Batches(numbers(9), **options)
    stream = iter(first)
    head = [next(stream).values.tolist() for _ in range(min(stop, len(uncut)))]
    second = Batches(numbers(9), **options)
    second.load_state_dict(first.state_dict())
    assert head + seen(second) == uncut


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    batches = Batches(numbers(50), size=50, seed=1, epochs=2)
    first, second = seen(batches)
    assert first != second
    torch.manual_seed(99)
    assert seen(Batches(numbers(50), size=50, seed=1, epochs=2)) == [first, second]
    assert seen(Batches(numbers(50), size=50, seed=2)) != [first]
    assert seen(Batches(numbers(50), size=50, seed=2)) != [second], "seed + 1 is not epoch + 1"


def test_without_shuffling_the_order_is_that_of_the_data_and_a_short_batch_can_be_left_out():
    assert seen(Batches(numbers(5), size=2, shuffle=False)) == [[0, 1], [2, 3], [4]]
    assert seen(Batches(numbers(5), size=2, shuffle=False, drop_last=True)) == [[0, 1], [2, 3]]


def test_endless_batches_have_no_length():
    batches = Batches(numbers(3), size=2, epochs=None)
    stream = iter(batches)
    drawn = [row for _ in range(4) for row in next(stream).values.tolist()]
    assert sorted(drawn) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(TypeError, match="for ever"):
        len(batches)


def test_a_position_is_refused_where_data_or_settings_have_changed():
    state = Batches(numbers(9), size=2).state_dict()
    with pytest.raises(UserError, match="cannot resume the data: rows was 9 and is 8 now"):
        Batches(numbers(8), size=2).load_state_dict(state)
    with pytest.raises(UserError, match="size was 2 and is 3 now"):
        Batches(numbers(9), size=3).load_state_dict(state)
    with pytest.raises(UserError, match="8 rows do not fill one batch of 9"):
        Batches(numbers(8), size=9, drop_last=True)


def test_hh_is_tokenised_whole_and_in_seconds(hh_file, smollm2):
    import time

    records = load(hh_file, "comparisons").records
    start = time.monotonic()
    result = tokenize_comparisons(records, ChatTemplate(smollm2), fit=Fit(512))
    assert time.monotonic() - start < 30
    assert len(result.kept) + result.dropped.total == len(records)
    steps = result.data.answers.values
    ends = torch.stack([row[-1] for row in steps.answer.rows()])
    assert bool((ends == smollm2.eos_token_id).all())
    assert int((steps.prompt.lengths + steps.answer.lengths).max()) <= 512
