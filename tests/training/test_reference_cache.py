"""What the reference has said is kept, whatever happens on the way."""

from __future__ import annotations

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

from backflip.data.batches import ComparisonBatch
from backflip.models.causal import AdaptersOff, CausalPolicy
from backflip.training import reference_cache
from backflip.training.reference import (
    ReferenceWork,
    with_reference,
)
from backflip.training.reference_cache import (
    ReferenceCache,
    ReferenceRows,
    model_fingerprint,
    row_key,
)
from tests.models.families import tiny
from tests.training.referenced import (
    adapted,
    comparisons,
    counted,
    labelled,
    naive,
    no_warning,
    stated,
)


@pytest.fixture
def cache(tmp_path):
    return ReferenceCache("little", folder=tmp_path / "reference")


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
    monkeypatch.setattr("backflip.training.reference.WINDOW", 10)
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
    context.set_forkserver_preload(["tests.training.test_reference"])
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


def test_numbers_that_were_read_with_dropout_are_never_read_again(tmp_path, monkeypatch):
    """Files of the first version may hold numbers of adapted models with dropout on."""
    policy = CausalPolicy(tiny("llama"))
    now = ReferenceCache(folder=tmp_path).path(policy), row_key(b"a", b"b", b"c")
    monkeypatch.setattr("backflip.training.reference_cache.VERSION", b"backflip reference 1")
    old = ReferenceCache(folder=tmp_path).path(policy), row_key(b"a", b"b", b"c")
    assert old[0] != now[0]
    assert old[1] != now[1]


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
