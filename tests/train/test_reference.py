"""The reference as a stage of the data: the right numbers, once, whatever happens on the way."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import time
import warnings

import pytest
import torch

from backflip.algorithms.direct import tell
from backflip.algorithms.dpo import DPO
from backflip.data.batches import (
    ComparisonBatch,
    LabelledBatch,
    ReferencedComparisons,
    TokenSteps,
)
from backflip.data.errors import UserError
from backflip.data.stream import Batches
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.models.lora import LoraSettings, add_lora
from backflip.train import reference_cache
from backflip.train.driver import Interrupted, drive
from backflip.train.offline import OfflineLoop
from backflip.train.reference import (
    MovingReference,
    ReferenceWork,
    check_same_vocabulary,
    with_reference,
)
from backflip.train.reference_cache import ReferenceCache, ReferenceRows, model_fingerprint, row_key
from backflip.train.run import RunFolder
from tests.models.families import FALLBACK, tiny
from tests.train.little import Watch, assert_same, learner, result

BUDGET = 64


def comparisons(rows=12, answers=2, seed=0):
    """Prompts of several lengths, answers of several turns: some tokens are the user's."""
    generator = torch.Generator().manual_seed(seed)

    def words(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 61, (length,), generator=generator).tolist()

    prompts = [words(4, 9) for _ in range(rows)]
    texts = [[words(2, 10) for _ in range(answers)] for _ in range(rows)]
    masks = [[[i % 5 != 2 for i in range(len(a))] for a in row] for row in texts]
    return ComparisonBatch.of(prompts, texts, [list(range(answers))] * rows, masks=masks)


def labelled(rows=7):
    pairs = comparisons(rows)
    own, other = torch.arange(rows) * 2, (torch.arange(rows) * 2 + 3) % (2 * rows)
    steps, mask = pairs.answers.values, pairs.mask.values
    mismatched = TokenSteps(steps.prompt[own], steps.answer[other], steps.width)
    return LabelledBatch(
        steps=steps[own],
        mask=mask[own],
        label=torch.arange(rows) % 2 == 0,
        weight=torch.ones(rows),
        mismatched=mismatched,
        mismatched_mask=mask[other],
    )


def naive(model, steps, mask):
    """One row at a time, without forest, cache or packing."""
    sums = []
    for row in range(len(steps)):
        tokens = torch.tensor([steps.sequence(row)])
        logp = model(input_ids=tokens, use_cache=False).logits[0].log_softmax(-1)
        start = int(steps.prompt.lengths[row])
        own = [
            logp[at - 1, tokens[0, at]]
            for at in range(start, tokens.shape[1])
            if mask[row, at - start]
        ]
        sums.append(torch.stack(own).sum())
    return torch.stack(sums).detach()


def counted(policy):
    """The policy, and the answers in each of its forward passes."""
    calls, evaluate = [], policy.evaluate

    def counting(steps, want=("logp",)):
        calls.append(len(steps))
        return evaluate(steps, want)

    policy.evaluate = counting
    return policy, calls


def adapted(seed=0, trained=False):
    policy = CausalPolicy(add_lora(tiny("llama", seed), LoraSettings(rank=2, alpha=4.0)))
    if trained:
        torch.manual_seed(9)
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.3)
    return policy


def stated(data, policy, **settings):
    return with_reference(data, policy, token_budget=BUDGET, **settings)


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache("little", folder=tmp_path / "reference")


@contextlib.contextmanager
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---- the numbers


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
    monkeypatch.setattr("backflip.train.reference.WINDOW", 7)
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


# ---- the cache


def test_a_second_run_computes_nothing_and_has_the_same_bits(cache):
    data, seen = comparisons(), []
    first = stated(data, CausalPolicy(tiny("llama")), cache=cache, progress=seen.append)
    assert dataclasses.replace(seen[-1], seconds=0.0) == ReferenceWork(24, hits=0, computed=24)
    assert [work.done for work in seen] == sorted({work.done for work in seen}), "it goes up"
    policy, calls = counted(CausalPolicy(tiny("llama")))
    second = stated(data, policy, cache=cache, progress=seen.append)
    assert calls == []
    assert torch.equal(first.logp_ref.values, second.logp_ref.values)
    assert dataclasses.replace(seen[-1], seconds=0.0) == ReferenceWork(24, hits=24, computed=0)


def test_labelled_rows_and_comparisons_share_their_answers(cache):
    stated(comparisons(7), CausalPolicy(tiny("llama")), cache=cache)
    policy, calls = counted(CausalPolicy(tiny("llama")))
    stated(labelled(), policy, cache=cache)
    assert sum(calls) == 7, "only the mismatched answers are new"


def test_another_row_is_computed(cache):
    """One token, one place of the mask, or the border between prompt and answer moved."""
    stated(ComparisonBatch.of([[3, 4]], [[[5, 6], [7, 8]]], [[0, 1]]), CausalPolicy(tiny("llama")),
           cache=cache)  # fmt: skip
    masks = [[[True, True], [True, False]]]
    for prompt, answers, masked, new in (
        ([3, 4], [[5, 6], [7, 8]], None, 0),
        ([3, 4], [[7, 8], [5, 6]], None, 0),
        ([3, 4], [[5, 6], [7, 9]], None, 1),
        ([3, 9], [[5, 6], [7, 8]], None, 2),
        ([3, 4], [[5, 6], [7, 8]], masks, 1),
        ([3, 4, 5], [[6], [8]], None, 2),
    ):
        policy, calls = counted(CausalPolicy(tiny("llama")))
        data = ComparisonBatch.of([prompt], [answers], [[0, 1]], masks=masked)
        got = stated(data, policy, cache=cache)
        assert sum(calls) == new, (prompt, answers, masked)
        expected = naive(tiny("llama"), data.answers.values, data.mask.values)
        torch.testing.assert_close(got.logp_ref.values, expected, atol=1e-4, rtol=0)


def test_keys_tell_apart_what_reads_alike_end_to_end():
    assert row_key(b"ab", b"c", b"d") != row_key(b"a", b"bc", b"d")
    assert row_key(b"ab", b"c", b"d") != row_key(b"ab", b"cd", b"")


def test_another_model_has_another_file_and_no_hits(cache):
    data = comparisons()
    first = stated(data, CausalPolicy(tiny("llama")), cache=cache)
    policy, calls = counted(CausalPolicy(tiny("llama", seed=1)))
    second = stated(data, policy, cache=cache)
    assert sum(calls) == 24
    assert (first.logp_ref.values - second.logp_ref.values).abs().max() > 0.1
    assert len(list(cache.folder.glob("*.sqlite"))) == 2


def test_the_line_for_people():
    assert ReferenceWork(1350, 1200, 150, 12.3).line() == (
        "reference: 1,200 of 1,350 answers from the cache, 150 computed in 12 s"
    )
    assert ReferenceWork(1350, 0, 1350, 12.3).line() == "reference: 1,350 answers computed in 12 s"


def test_the_file_says_for_people_which_model_it_is_of(cache):
    policy = CausalPolicy(tiny("llama"))
    for name in ("little", "other", "other"):
        ReferenceCache(name, folder=cache.folder).rows(policy).close()
    with ReferenceRows(cache.path(policy)) as rows:
        assert sorted(rows.names()) == ["little", "other"]


def test_the_folder_is_that_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path))
    assert ReferenceCache("x").folder == tmp_path / "reference"


@pytest.mark.parametrize("where", ["in a forward pass", "in the bar"])
def test_an_interrupted_pass_goes_on_where_it_was_with_the_same_bits(where, cache, monkeypatch):
    monkeypatch.setattr("backflip.train.reference.WINDOW", 10)
    data = comparisons()
    alone, all_calls = counted(CausalPolicy(tiny("llama")))
    whole = stated(data, alone).logp_ref.values
    policy, calls = counted(CausalPolicy(tiny("llama")))
    evaluate = policy.evaluate

    def dying(*args):
        if where == "in a forward pass" and len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args)

    def watching(work):
        if where == "in the bar" and work.computed >= 9:
            raise KeyboardInterrupt

    policy.evaluate = dying
    with pytest.raises(KeyboardInterrupt):
        stated(data, policy, cache=cache, progress=watching)
    done = sum(calls)
    assert 0 < done < 24
    again, more = counted(CausalPolicy(tiny("llama")))
    got = stated(data, again, cache=cache)
    assert sum(more) == 24 - done
    assert calls + more == all_calls, "cut as if nothing had happened"
    assert torch.equal(got.logp_ref.values, whole)


def test_rows_missing_here_and_there_are_computed_together(cache):
    """A third of the answers is known: the others do not go in torn micro-batches."""
    data = comparisons(rows=12)
    stated(data[torch.arange(0, 12, 3)], CausalPolicy(tiny("llama")), cache=cache)
    policy, calls = counted(CausalPolicy(tiny("llama")))
    got = stated(data, policy, cache=cache)
    assert sum(calls) == 16
    fresh, all_calls = counted(CausalPolicy(tiny("llama")))
    whole = stated(data, fresh)
    assert len(calls) < len(all_calls)
    torch.testing.assert_close(got.logp_ref.values, whole.logp_ref.values, atol=1e-4, rtol=0)


def _state(folder, order, ready, results):
    """In a process of its own: state the reference of many rows, slowly."""
    torch.set_num_threads(1)
    data = comparisons(rows=30, seed=3)[torch.tensor(order)]
    cache = ReferenceCache("x", folder=folder)
    ready.wait(60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = with_reference(data, CausalPolicy(tiny("llama")), token_budget=32, cache=cache)
    results.put((order, got.logp_ref.values.tolist()))


def test_two_processes_may_write_at_once(tmp_path):
    """In opposite orders, so that they meet; both end with what the file holds, to the bit."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.test_reference"])
    barrier, results = context.Barrier(3), context.Queue()
    orders = [list(range(30)), list(range(29, -1, -1)), list(range(30))]
    processes = [
        context.Process(target=_state, args=(tmp_path, order, barrier, results)) for order in orders
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    by_row = [
        torch.tensor(values).view(30, 2)[torch.tensor(order).argsort()] for order, values in found
    ]
    assert torch.equal(by_row[0], by_row[1])
    assert torch.equal(by_row[0], by_row[2])
    with ReferenceCache(folder=tmp_path).rows(CausalPolicy(tiny("llama"))) as rows:
        assert len(rows) == 60


def _add_for_ever(path, ready):
    with ReferenceRows(path) as rows:
        for number in range(100_000):
            rows.add({row_key(b"", str(number).encode(), b""): float(number)})
            if number == 50:
                ready.set()


def test_a_killed_process_leaves_the_file_whole(tmp_path):
    path = tmp_path / "a.sqlite"
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=_add_for_ever, args=(path, ready))
    process.start()
    assert ready.wait(60)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with no_warning(), ReferenceRows(path) as rows:
        assert len(rows) > 50
        key = row_key(b"", b"50", b"")
        assert rows.look_up([key]) == {key: 50.0}


def test_the_first_to_keep_a_row_is_right(tmp_path):
    """Numbers of two runs may differ in the last bits: both go on from the same ones."""
    key = row_key(b"a", b"b", b"c")
    with ReferenceRows(tmp_path / "a.sqlite") as one, ReferenceRows(tmp_path / "a.sqlite") as two:
        assert one.add({key: -1.5}) == {key: -1.5}
        assert two.add({key: -1.25}) == {key: -1.5}


@pytest.mark.parametrize("damage", ["not a database", "torn", "a page of zeros"])
def test_a_damaged_file_is_set_aside(damage, cache):
    data, policy = comparisons(), CausalPolicy(tiny("llama"))
    with cache.rows(policy) as rows:
        rows.add({row_key(b"", str(i).encode(), b""): 0.0 for i in range(2000)})
    first = stated(data, policy, cache=cache)
    path = cache.path(policy)
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:100] = b"x" * 100
    elif damage == "torn":
        content = content[: len(content) // 2]
    else:
        content[4096 * 3 : 4096 * 4] = bytes(4096)
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"is damaged .*set aside as .*\.sqlite\.damaged"):
        second = stated(data, policy, cache=cache)
    assert torch.equal(first.logp_ref.values, second.logp_ref.values)
    assert path.with_name(path.name + ".damaged").is_file()
    counting, calls = counted(CausalPolicy(tiny("llama")))
    with no_warning():
        stated(data, counting, cache=cache)
    assert calls == [], "the new file is in use"


def test_damage_that_shows_late_is_set_aside_too(cache, monkeypatch):
    """The file was whole when it was opened."""
    data, policy = comparisons(), CausalPolicy(tiny("llama"))
    first = stated(data, policy, cache=cache)
    rows = cache.rows(policy)
    rows.close()
    content = bytearray(cache.path(policy).read_bytes())
    for page in range(1, len(content) // 4096):
        content[4096 * page : 4096 * (page + 1)] = b"\xff" * 4096
    cache.path(policy).write_bytes(content)
    monkeypatch.setattr(reference_cache, "_check", lambda db: None)
    with pytest.warns(UserWarning, match="damaged"):
        second = stated(data, policy, cache=cache)
    assert torch.equal(first.logp_ref.values, second.logp_ref.values)


def test_without_a_place_to_write_the_run_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    data, policy = comparisons(), CausalPolicy(tiny("llama"))
    with pytest.warns(UserWarning, match="cannot be used .*goes on without it") as seen:
        got = stated(data, policy, cache=ReferenceCache("x", folder=tmp_path / "file" / "a"))
    assert len(seen) == 1, "said once"
    assert torch.equal(got.logp_ref.values, stated(data, policy).logp_ref.values)


def test_a_full_disk_costs_the_cache_only(cache, monkeypatch):
    """SQLite is told that no page more fits."""
    opened = reference_cache._opened

    def full(path):
        db = opened(path)
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(reference_cache, "_opened", full)
    data, policy = comparisons(rows=80), CausalPolicy(tiny("llama"))
    with pytest.warns(UserWarning, match=r"cannot be used \(database or disk is full\)") as seen:
        got = stated(data, policy, cache=cache)
    assert len(seen) == 1
    assert torch.equal(got.logp_ref.values, stated(data, policy).logp_ref.values)


def test_a_locked_file_is_not_waited_for_without_end(cache, monkeypatch):
    monkeypatch.setattr(reference_cache, "PATIENCE", 0.1)
    policy = CausalPolicy(tiny("llama"))
    cache.rows(policy).close()
    other = sqlite3.connect(cache.path(policy))
    other.execute("BEGIN IMMEDIATE")
    with pytest.warns(UserWarning, match="locked.*goes on without it"):
        stated(comparisons(), policy, cache=cache)
    other.close()


# ---- fingerprints


def test_new_adapters_do_not_change_the_fingerprint():
    base = model_fingerprint(CausalPolicy(tiny("llama")))
    assert model_fingerprint(adapted()) == base
    assert model_fingerprint(AdaptersOff(adapted(trained=True))) == base
    trained = model_fingerprint(adapted(trained=True))
    assert trained != base
    assert model_fingerprint(adapted(trained=True)) == trained


def test_the_strength_of_trained_adapters_counts():
    one, two = adapted(trained=True), adapted(trained=True)
    for module in two.model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] *= 2
    assert model_fingerprint(one) != model_fingerprint(two)


def test_what_changes_a_probability_changes_the_fingerprint():
    def changed(change):
        policy = CausalPolicy(tiny("llama"))
        policy.model.config = copy.deepcopy(policy.model.config)  # tiny models share theirs
        with torch.no_grad():
            change(policy)
        return model_fingerprint(policy)

    base = model_fingerprint(CausalPolicy(tiny("llama")))
    weight = "model.layers.1.mlp.up_proj.weight"
    changes = {
        "one weight": lambda p: p.model.get_parameter(weight)[3, 4].add_(1e-3),
        "the type": lambda p: p.model.bfloat16(),
        "the temperature": lambda p: setattr(p, "temperature", 0.7),
        "the arithmetic": lambda p: setattr(p.trunk, "compute", torch.bfloat16),
        "the rotation": lambda p: setattr(p.model.config, "rope_parameters", {"rope_theta": 5.0}),
    }
    found = {name: changed(change) for name, change in changes.items()}
    assert len({base, *found.values()}) == 1 + len(changes), found
    harmless = {
        "folder": lambda p: setattr(p.model.config, "_name_or_path", "elsewhere"),
        "cache": lambda p: setattr(p.model.config, "use_cache", False),
        "value head": lambda p: p.add_value_head(),
        "no gradient": lambda p: p.requires_grad_(requires_grad=False),
    }
    assert {changed(change) for change in harmless.values()} == {base}


def test_a_model_has_the_same_fingerprint_when_it_is_loaded_again(tmp_path):
    from backflip.models.load import load_causal

    model = tiny("llama")
    model.save_pretrained(tmp_path)
    again = load_causal(str(tmp_path), precision="float32")
    assert model_fingerprint(CausalPolicy(again)) == model_fingerprint(CausalPolicy(model))


# ---- other tokens


class Words:
    def __init__(self, *words):
        self.words = words

    def get_vocab(self):
        return {word: number for number, word in enumerate(self.words)}


def test_another_vocabulary_is_refused():
    check_same_vocabulary(Words("a", "b"), Words("a", "b"), "it")
    with pytest.raises(UserError, match=r"ref/model has another tokenizer .*: 4 entries differ"):
        check_same_vocabulary(Words("a", "b", "c"), Words("a", "c", "b"), "ref/model")


# ---- a reference that moves


def moving_parts(mix, every, make=adapted):
    torch.manual_seed(0)
    policy = make()
    referee = MovingReference(policy, mix=mix, every=every, token_budget=BUDGET)
    loop = OfflineLoop(learner(policy), DPO(beta=0.5), referee)
    batches = Batches(comparisons(), size=4, seed=1, epochs=4)
    return loop, batches, policy, referee


def full():
    return CausalPolicy(tiny("llama"))


def ratios(policy, referee, data):
    with torch.no_grad():
        logp = policy.evaluate(data.answers.values)["logp"]
    return tell(logp, referee.before(data)).ratio


@pytest.mark.parametrize("make", [adapted, full])
def test_a_hard_update_after_every_step_leaves_no_ratio(make):
    loop, batches, policy, referee = moving_parts(1.0, 1, make)
    for index, batch in enumerate(batches, start=1):
        metrics = loop.step(index, batch)
        assert metrics["margin"] == pytest.approx(0.0, abs=1e-4), "the reference had caught up"
        before = ratios(policy, referee, batch).abs().max()
        assert before < 1e-4
        if index == 3:
            break


@pytest.mark.parametrize("make", [adapted, full])
def test_it_moves_only_when_its_time_has_come(make):
    loop, batches, policy, referee = moving_parts(1.0, 3, make)
    data, first = comparisons(), make()
    expected = stated(data, first).logp_ref.values
    for index, batch in enumerate(batches, start=1):
        loop.step(index, batch)
        now = referee.before(data).logp_ref.values
        if index < 3:
            torch.testing.assert_close(now, expected, atol=1e-4, rtol=0)
            assert ratios(policy, referee, data).abs().max() > 1e-3
        else:
            assert (now - expected).abs().max() > 1e-3
            assert ratios(policy, referee, data).abs().max() < 1e-4
            break


@pytest.mark.parametrize("make", [adapted, full])
def test_the_soft_update_mixes_the_weights(make):
    """θ_ref ← 0.25·θ + 0.75·θ_ref, twice, by hand."""
    loop, batches, policy, referee = moving_parts(0.25, 1, make)
    expected = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    for index, batch in enumerate(batches, start=1):
        loop.step(index, batch)
        for name, parameter in policy.model.named_parameters():
            expected[name] = 0.25 * parameter.detach() + 0.75 * expected[name]
        if index == 2:
            break
    other = make()
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            parameter.copy_(expected[name])
    data = comparisons()
    torch.testing.assert_close(
        referee.before(data).logp_ref.values, stated(data, other).logp_ref.values,
        atol=1e-4, rtol=0,
    )  # fmt: skip


def test_with_lora_only_the_adapters_are_held():
    _, _, policy, referee = moving_parts(1.0, 1)
    held = sum(tensor.numel() for tensor in referee.state_dict()["held"].values())
    assert held == sum(p.numel() for n, p in policy.model.named_parameters() if "lora_" in n)


def test_the_policy_has_its_own_weights_again_whatever_happens():
    loop, batches, policy, referee = moving_parts(1.0, 2)
    batch = next(iter(batches))
    loop.step(1, batch)
    before = [p.detach().clone() for p in policy.parameters()]
    policy.evaluate = lambda *args: 1 / 0
    with pytest.raises(ZeroDivisionError):
        referee.before(batch)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_numbers_that_make_no_sense_are_refused():
    for settings in ({"mix": 0.0, "every": 1}, {"mix": 1.5, "every": 1}, {"mix": 1, "every": 0}):
        with pytest.raises(UserError, match=r"mix is|every is"):
            MovingReference(full(), token_budget=8, **settings)


def test_labelled_batches_are_restated_too():
    referee = MovingReference(full(), mix=1.0, every=1, token_budget=BUDGET)
    data = stated(labelled(), CausalPolicy(tiny("llama", seed=1)))
    got, expected = referee.before(data), stated(labelled(), full())
    assert torch.equal(got.logp_ref, expected.logp_ref)
    assert torch.equal(got.mismatched_ref, expected.mismatched_ref)


class Stopping(Watch):
    def __init__(self, run, at):
        super().__init__(run)
        self.at = at

    def __call__(self, index, metrics, loop):
        if index == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__call__(index, metrics, loop)


def go(path, make, stop_at=None):
    run = RunFolder.open(path) if RunFolder.holds_run(path) else RunFolder.create(path, "stage: x")
    loop, batches, policy, _ = moving_parts(0.5, 2, make)
    modules = {"policy": policy}
    outcome = drive(
        loop, batches, run=run, stage="x", total=7, modules=modules, watch=Stopping(run, stop_at)
    )
    return result(path, outcome, modules)


@pytest.mark.parametrize("make", [adapted, full])
@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_resumed_run_ends_with_the_same_bits(make, stop_at, tmp_path):
    """Once before the reference has moved, once between two of its moves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = go(tmp_path / "whole", make)
    with pytest.raises(Interrupted):
        go(tmp_path / "run", make, stop_at)
    assert_same(go(tmp_path / "run", make), whole)
    torch.set_num_threads(threads)


def test_a_batch_of_a_referenced_dataset_is_its_rows():
    data = stated(comparisons(), CausalPolicy(tiny("llama")))
    for batch in Batches(data, size=5, shuffle=False):
        assert isinstance(batch, ReferencedComparisons)
        again = stated(batch.comparisons, CausalPolicy(tiny("llama")))
        torch.testing.assert_close(batch.logp_ref.values, again.logp_ref.values, atol=1e-4, rtol=0)
