"""Rows that are read while they are learnt from: order, memory, resumption, accounts."""

from __future__ import annotations

import json

import pytest

from backflip.data.chat import ChatTemplate
from backflip.data.collate import Fit, tokenize_demonstrations
from backflip.data.formats import load
from backflip.data.records import Comparison, Demonstration
from backflip.data.sources import write_jsonl
from backflip.data.splits import opening_key
from backflip.data.stream import Batches
from backflip.data.streaming import StreamedBatches, StreamedRecords, shuffled
from backflip.errors import UserError
from tests.data.living import counted
from tests.data.tiny import CHATML, byte_tokenizer


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(byte_tokenizer(CHATML))


def rows_in(path, number):
    rows = [{"prompt": f"Is {n} even?", "completion": f"Ask {n}."} for n in range(number)]
    write_jsonl(path, rows)
    return str(path)


def batches_of(source, template, *, max_length=None, apart=(), limit=None, **settings):
    records = StreamedRecords(source, Demonstration, apart=apart, limit=limit)
    fit = Fit(max_length)
    settings = {"size": 4, "buffer": 10, "epochs": 1, **settings}
    return StreamedBatches(
        records, lambda r: tokenize_demonstrations(r, template, fit=fit), **settings
    )


def said(batch, template):
    decode = template.tokenizer.decode
    return [decode(row.tolist()) for row in batch.steps.prompt.rows()]


def same(a, b):
    return all(
        (x == y).all() and x.shape == y.shape
        for x, y in (
            (a.steps.prompt.values, b.steps.prompt.values),
            (a.steps.answer.values, b.steps.answer.values),
            (a.mask, b.mask),
        )
    )


def test_a_buffer_draws_each_item_once_from_the_next_that_were_not_drawn():
    order = list(shuffled(iter(range(1000)), 50, seed=3))
    assert sorted(order) == list(range(1000))
    assert order != list(range(1000))
    for place, item in enumerate(order):
        assert item < place + 50
    assert order == list(shuffled(iter(range(1000)), 50, seed=3))
    assert order != list(shuffled(iter(range(1000)), 50, seed=4))
    assert list(shuffled(iter(range(9)), 1, seed=0)) == list(range(9))


def test_a_buffer_that_holds_all_gives_every_order():
    """All six orders of three, about equally often."""
    orders = [tuple(shuffled(iter(range(3)), 5, seed=seed)) for seed in range(1200)]
    counts = [orders.count(order) for order in sorted(set(orders))]
    assert len(counts) == 6
    assert min(counts) > 140  # 200 expected, 13 standard deviation


def test_batches_are_those_of_the_same_records_in_memory(template, tmp_path):
    """With a buffer of one the order is that of the file, so both ways must give the same bits."""
    source = rows_in(tmp_path / "rows.jsonl", 30)
    whole = tokenize_demonstrations(load(source, "demonstrations").records, template).data
    plain = list(Batches(whole, size=4, shuffle=False))
    streamed = list(batches_of(source, template, buffer=1))
    assert len(plain) == len(streamed) == 8
    assert all(same(a, b) for a, b in zip(plain, streamed, strict=True))


def test_no_more_records_are_held_than_the_buffer_and_a_batch(template, tmp_path, monkeypatch):
    source = rows_in(tmp_path / "rows.jsonl", 200)
    peak, rows, living = 0, 0, counted(monkeypatch, Demonstration)
    for batch in batches_of(source, template, buffer=40, epochs=2):
        rows += len(batch)
        peak = max(peak, living())
    assert rows == 400
    assert 40 <= peak <= 40 + 4 + 2


@pytest.mark.parametrize("steps", [0, 1, 15, 16, 29])
def test_what_is_resumed_goes_on_with_the_same_bits_and_counts(steps, template, tmp_path):
    """Over two passes, with rows that are left out while reading and while fitting."""
    path = tmp_path / "rows.jsonl"
    rows_in(path, 60)
    lines = path.read_text().splitlines()
    lines[5] = json.dumps({"prompt": None, "completion": "x"})
    lines[9] = json.dumps({"prompt": "Long? " * 40, "completion": "x"})
    lines[40] = json.dumps({"prompt": "Another?", "completion": "x", "id": 3})
    lines[50:50] = ["{cut", "", "[1]"]
    path.write_text("\n".join([*lines, "{last"]))
    settings = {"max_length": 150, "epochs": 2, "size": 4, "apart": {"user: is 7 even?"}}
    straight = batches_of(str(path), template, **settings)
    expected = list(straight)
    first = batches_of(str(path), template, **settings)
    going = iter(first)
    begun = [next(going) for _ in range(steps)]
    state = json.loads(json.dumps(first.state_dict()))
    second = batches_of(str(path), template, **settings)
    second.load_state_dict(state)
    resumed = begun + list(second)
    assert len(resumed) == len(expected)
    assert all(same(a, b) for a, b in zip(resumed, expected, strict=True))
    assert second.account.state_dict() == straight.account.state_dict()
    assert straight.account.dropped.counts == {
        "no prompt: column 'prompt' is null": 1,
        "longer than 150 tokens": 1,
        "malformed line": 3,
    }
    assert dict(straight.account.unread) == {"id": 1}
    assert (straight.account.rows, straight.account.apart, straight.account.learnt) == (60, 1, 57)


def test_prompts_that_are_held_out_never_stand_in_a_batch(template, tmp_path):
    rows = [{"prompt": f"Is {n % 40} even?", "completion": f"Ask {n}."} for n in range(200)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    apart = {f"user: is {n} even?" for n in (3, 17)}
    batches = batches_of(str(tmp_path / "rows.jsonl"), template, apart=apart)
    prompts = [text for batch in batches for text in said(batch, template)]
    assert len(prompts) == 190
    assert not any("Is 3 even" in text or "Is 17 even" in text for text in prompts)
    assert batches.account.apart == 10


def test_batches_are_full_although_rows_are_left_out(template, tmp_path):
    rows = [
        {"prompt": "Long? " * 40 if n % 3 else f"Is {n} even?", "completion": "x"}
        for n in range(60)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    batches = batches_of(str(tmp_path / "rows.jsonl"), template, max_length=150)
    assert [len(batch) for batch in batches] == [4] * 5
    assert batches.counts() == {"rows_left_out": 40.0}


@pytest.mark.parametrize("change", ["fewer", "other", "seed", "size", "buffer"])
def test_other_data_or_settings_are_refused_when_resuming(change, template, tmp_path):
    path = tmp_path / "rows.jsonl"
    batches = batches_of(rows_in(path, 60), template)
    going = iter(batches)
    for _ in range(10):
        next(going)
    if change == "fewer":
        rows_in(path, 20)
    if change == "other":
        path.write_text(path.read_text().replace("even", "odd"))
    changed = {change: 7} if change in ("seed", "size", "buffer") else {}

    def resumed():
        again = batches_of(str(path), template, **changed)
        again.load_state_dict(batches.state_dict())
        return list(again)

    with pytest.raises(UserError, match="cannot resume the data"):
        resumed()


def test_without_a_row_to_learn_from_no_pass_is_repeated_for_ever(template, tmp_path):
    source = rows_in(tmp_path / "rows.jsonl", 5)
    with pytest.raises(UserError, match=r"no row is left to learn from: 5 × longer than 2 tokens"):
        list(batches_of(source, template, max_length=2, epochs=None))


def test_comparisons_that_are_made_of_several_rows_cannot_be_streamed(tmp_path):
    rows = [{"prompt": "a?", "completion": "b", "label": n == 0} for n in range(2)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=r"put together out of labelled answers .* be streamed"):
        list(StreamedRecords(str(tmp_path / "rows.jsonl"), Comparison))


def test_a_hub_dataset_is_streamed_and_no_more_is_fetched_than_is_read(monkeypatch):
    """The library itself makes the stream, out of a generator that says what was asked of it."""
    import datasets

    from backflip.data import sources

    asked, fetched = {}, []

    def rows():
        for n in range(1000):
            fetched.append(n)
            yield {"prompt": f"Is {n} even?", "completion": "x"}

    def loads(name, config, *, split, streaming):
        asked.update(name=name, config=config, split=split, streaming=streaming)
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", loads)
    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    records = iter(StreamedRecords("owner/name:other:test", Demonstration))
    first = [opening_key(next(records)) for _ in range(3)]
    assert first[2] == "user: is 2 even?"
    assert asked == {"name": "owner/name", "config": "other", "split": "test", "streaming": True}
    assert len(fetched) < 20


def test_a_network_that_fails_on_the_way_is_a_line(monkeypatch):
    import datasets

    from backflip.data import sources

    def rows():
        yield {"prompt": "Is 0 even?", "completion": "x"}
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(rows)
    )
    monkeypatch.setattr(sources, "hub_answers", lambda: True)
    records = iter(StreamedRecords("owner/name", Demonstration))
    with pytest.raises(UserError, match=r"dataset owner/name: the network failed on the way"):
        list(records)
