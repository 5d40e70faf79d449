"""A round keeps what it has: draws, scores, and the reasons why some have none."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch

from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.ragged import Ragged
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.sampler import Sampler
from backflip.generate.torch.engine import TorchEngine
from backflip.reward.protocol import Judgement
from backflip.sampling.draw import GIVE_UP, Round, judge_all
from backflip.sampling.samples import Sampled, joined, pooled
from tests.models.families import tiny

PROMPTS = Ragged.of([[1, 3 + i, 9, 40 - i] for i in range(5)])


class Counted:
    """A sampler that knows how often it was asked, and that may break."""

    group_size = 3

    def __init__(self, breaks_at=None):
        engine = TorchEngine(tiny("llama"))
        params = SamplingParams(max_tokens=5, stop_tokens=(2, 5, 17))
        self.inner = Sampler(engine=engine, params=params, group_size=3)
        self.breaks_at, self.asked = breaks_at, []

    def __call__(self, prompts, *, seed):
        if len(self.asked) == self.breaks_at:
            raise KeyboardInterrupt
        self.asked.append(len(prompts))
        return self.inner(prompts, seed=seed)

    def sync(self, policy):
        self.inner.sync(policy)


def mean_token(rollouts):
    scores = torch.tensor([float(row.float().mean()) for row in rollouts.steps.answer.rows()])
    return Judgement(scores, {"length": rollouts.steps.answer.lengths.float()})


class Fussy:
    """Raises on, or has no number for, answers that begin with the given tokens."""

    def __init__(self, raises=(), nan=()):
        self.raises, self.nan, self.judged = set(raises), set(nan), 0

    def __call__(self, rollouts):
        firsts = [int(row[0]) for row in rollouts.steps.answer.rows()]
        self.judged += len(firsts)
        if self.raises & set(firsts):
            raise RuntimeError("no word for it\nand more")
        scores = mean_token(rollouts).scores
        bad = torch.tensor([first in self.nan for first in firsts])
        return Judgement(torch.where(bad, math.nan, scores))


def a_round(folder, **settings):
    return Round(**{"folder": folder, "prompts": PROMPTS, "chunk": 2, "seed": 4} | settings)


def assert_same(one: Rollouts, other: Rollouts):
    for name in ("mask", "logp", "group", "finished"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.steps.width == other.steps.width
    for name in ("prompt", "answer"):
        a, b = getattr(one.steps, name), getattr(other.steps, name)
        assert torch.equal(a.values, b.values)
        assert torch.equal(a.offsets, b.offsets)


def firsts(rollouts):
    return [int(row[0]) for row in rollouts.steps.answer.rows()]


def test_sampling_goes_on_at_the_chunk_where_it_stopped(tmp_path):
    """Interrupted after two of three chunks: the third alone is drawn, and all is as without."""
    whole = a_round(tmp_path / "whole").draw(Counted())
    with pytest.raises(KeyboardInterrupt):
        a_round(tmp_path / "broken").draw(Counted(breaks_at=2))
    sampler = Counted()
    assert_same(a_round(tmp_path / "broken").draw(sampler), whole)
    assert sampler.asked == [1]
    assert whole.group.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    for row, number in enumerate(whole.group.tolist()):
        assert torch.equal(whole.steps.prompt.row(row), PROMPTS.row(number))


def test_chunks_do_not_share_their_random_numbers(tmp_path):
    """The same prompt in every chunk is answered anew each time."""
    same = Ragged.of([[1, 3, 9]] * 4)
    drawn = a_round(tmp_path, prompts=same, chunk=1).draw(Counted())
    answers = {tuple(row.tolist()) for row in drawn.steps.answer[:12].rows()}
    assert len(answers) > 3


def test_what_is_loaded_is_what_was_scored(tmp_path):
    sampler = Counted()
    scoring = a_round(tmp_path).sample(sampler, mean_token, show=str)
    again = a_round(tmp_path).sample(Counted(breaks_at=0), Fussy())
    assert_same(again.sampled.rollouts, scoring.sampled.rollouts)
    assert torch.equal(again.sampled.scores, scoring.sampled.scores)
    assert torch.equal(again.parts["length"], scoring.parts["length"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["samples.jsonl", "samples.safetensors"]
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == scoring.sampled.rollouts.group.tolist()
    assert lines[7]["score"] == pytest.approx(float(scoring.sampled.scores[7]))
    assert lines[7]["answer"] == str(scoring.sampled.rollouts.steps.answer.row(7).tolist())


def test_an_answer_on_which_the_scorer_raises_spoils_no_other(tmp_path):
    rollouts = a_round(tmp_path).draw(Counted())
    bad, odd = firsts(rollouts)[4], firsts(rollouts)[9]
    assert bad != odd
    scoring = judge_all(Fussy(raises=[bad], nan=[odd]), rollouts)
    for row, first in enumerate(firsts(rollouts)):
        alone = rollouts.steps.answer.row(row).float().mean()
        if first == bad:
            assert scoring.failed[row] == "RuntimeError: no word for it"
            assert scoring.sampled.scores[row].isnan()
        elif first == odd:
            assert scoring.failed[row] == "the score is nan"
        else:
            assert row not in scoring.failed
            assert float(scoring.sampled.scores[row]) == pytest.approx(float(alone))
    assert len(scoring.tally()) == 2
    assert scoring.metrics()["failed"] == pytest.approx(len(scoring.failed) / 15)


def test_a_scorer_that_fails_too_often_stops_the_round_and_loses_nothing(tmp_path):
    """Put right, it is asked about those answers that it failed on or has not seen."""
    rollouts = a_round(tmp_path).draw(Counted())
    begin = firsts(rollouts)
    bad = set(begin[:2] + begin[6:])
    failing = sum(first in bad for first in begin[:12])
    assert failing == 9  # with this seed
    with pytest.raises(UserError, match=r"failed on 9 of the first 12 .* no word for it"):
        a_round(tmp_path).score(Fussy(raises=bad))
    repaired = Fussy()
    scoring = a_round(tmp_path).score(repaired)
    assert repaired.judged == 9 + 3
    assert not scoring.failed
    torch.testing.assert_close(scoring.sampled.scores, mean_token(rollouts).scores)


def test_few_failures_are_kept_by_name(tmp_path):
    rollouts = a_round(tmp_path).draw(Counted())
    bad = firsts(rollouts)[9]
    a_round(tmp_path).score(Fussy(raises=[bad]), show=str)
    scoring = a_round(tmp_path).load()
    assert 9 in scoring.failed
    assert all(firsts(rollouts)[row] == bad for row in scoring.failed)
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert lines[9]["score"] is None
    assert lines[9]["failed"] == "RuntimeError: no word for it"


def test_a_scorer_that_cannot_score_anything_stops_at_the_first_chunk(tmp_path):
    sampler, scorer = Counted(), Fussy(raises=range(61))
    with pytest.raises(UserError, match="failed on 6 of the first 6 answers"):
        a_round(tmp_path, most_failed=0.9).sample(sampler, scorer)


def test_a_scorer_that_is_down_is_not_asked_about_every_answer(tmp_path):
    """Halving a batch of 64 down to single answers would ask 127 times, a timeout each."""
    rollouts = a_round(tmp_path).draw(Counted())
    many = joined([rollouts] * 6)
    asked = list[int]()

    def down(some):
        asked.append(len(some))
        raise TimeoutError("nobody answers")

    scoring = judge_all(down, many)
    assert len(scoring.failed) == len(many) == 90
    assert len(asked) < 2 * GIVE_UP + 8
    assert Counter(scoring.failed.values())["TimeoutError: nobody answers"] == GIVE_UP


@pytest.mark.parametrize("kind", [list, torch.tensor])
def test_a_scorer_may_return_plain_numbers(tmp_path, kind):
    rollouts = a_round(tmp_path).draw(Counted())
    scoring = judge_all(lambda some: kind([float(len(some))] * len(some)), rollouts)
    assert scoring.sampled.scores.tolist() == [15.0] * 15


def test_a_scorer_that_returns_something_else_is_told_what_to_return(tmp_path):
    rollouts = a_round(tmp_path).draw(Counted())
    with pytest.raises(UserError, match="returned str"):
        judge_all(lambda _: "very good", rollouts)


def test_a_scorer_with_too_few_scores_is_named(tmp_path):
    with pytest.raises(UserError, match=r"scores of shape \[2\] for 6 answers"):
        a_round(tmp_path).sample(Counted(), lambda rollouts: Judgement(torch.zeros(2)))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"seed": 5}, "seed=4, this is 5"),
        ({"prompts": Ragged.of([[1, 2]] * 5)}, "prompts="),
        ({"about": {"policy": "another"}}, "policy=None, this is another"),
        ({"chunk": 3}, "chunk=2, this is 3"),
    ],
)
def test_a_folder_of_another_round_is_refused(tmp_path, settings, name):
    with pytest.raises(KeyboardInterrupt):
        a_round(tmp_path).draw(Counted(breaks_at=1))
    with pytest.raises(UserError, match=name):
        a_round(tmp_path, **settings).draw(Counted())


def test_a_finished_round_is_not_taken_for_another(tmp_path):
    a_round(tmp_path).sample(Counted(), mean_token)
    with pytest.raises(UserError, match="seed=4, this is 5"):
        a_round(tmp_path, seed=5).sample(Counted(), mean_token)


def test_a_damaged_chunk_is_drawn_again(tmp_path):
    whole = a_round(tmp_path).draw(Counted())
    (tmp_path / "samples" / "draws_00001.safetensors").write_bytes(b"half a fi")
    sampler = Counted()
    assert_same(a_round(tmp_path).draw(sampler), whole)
    assert sampler.asked == [2]


def test_metrics_are_those_of_the_answers_with_a_score():
    steps = TokenSteps.of([[1]] * 4, [[3], [4, 2], [5, 6, 2], [7, 2]])
    finished = torch.tensor([False, True, True, True])
    group = torch.tensor([8, 8, 3, 3])
    rollouts = Rollouts(steps, steps.mask, torch.zeros(4, 3), group, finished)
    metrics = judge_all(
        lambda r: Judgement(torch.tensor([1.0, 3.0, math.nan, -2.0])), rollouts
    ).metrics()
    assert metrics["reward"] == pytest.approx(2 / 3)
    assert metrics["reward_best"] == pytest.approx(0.5)
    assert metrics["length"] == 2
    assert metrics["finished"] == 0.75
    assert metrics["failed"] == 0.25


def test_joined_rollouts_are_as_wide_as_the_widest():
    def one(answer, group):
        steps = TokenSteps.of([[1]], [answer])
        mask = steps.mask
        return Rollouts(steps, mask, mask * 1.0, torch.tensor([group]), torch.tensor([True]))

    both = joined([one([3, 2], 0), one([4, 5, 6, 2], 0)])
    assert both.mask.tolist() == [[True, True, False, False], [True] * 4]
    assert both.steps.mask.tolist() == both.mask.tolist()
    assert both.steps.sequence(1) == [1, 4, 5, 6, 2]
    samples = [Sampled(one([3, 2], 0), torch.ones(1)), Sampled(both, torch.zeros(2))]
    assert pooled(samples).scores.tolist() == [1, 0, 0]
