"""The numbers under which raters know items: they lead back, and tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from backflip.feedback.store.aliases import alias_of, item_of
from tests.feedback.conftest import pairs

KEYS = ("salt:1", "salt:2", "other:1")


@pytest.mark.parametrize("key", KEYS)
def test_every_item_has_its_own_alias_that_leads_back(key):
    items = [*range(2000), 2**26 - 1, 2**26, 2**40 + 7, 2**52 - 1]
    aliases = [alias_of(item, key) for item in items]
    assert len(set(aliases)) == len(items)
    assert all(0 <= alias < 2**52 for alias in aliases)
    assert [item_of(alias, key) for alias in aliases] == items


def test_an_order_cannot_be_read_off_aliases():
    """A thousand items in a row: ranks, halves and low bits of their aliases are chance."""
    aliases = np.array([alias_of(item, KEYS[0]) for item in range(1000)])
    assert abs(spearmanr(np.arange(1000), aliases).statistic) < 0.12  # four deviations
    for seen in (aliases < 2**51, aliases % 2 == 0, np.diff(aliases) > 0):
        assert abs(seen.mean() - 0.5) < 4 * 0.5 / 1000**0.5


def test_two_raters_share_no_numbers():
    mine, other = ({alias_of(item, key) for item in range(1000)} for key in KEYS[:2])
    assert not mine & other


@pytest.mark.parametrize("number", [-1, 2**52, 2**61])
def test_what_is_no_alias_is_no_item(number):
    assert item_of(number, KEYS[0]) == -1


def test_a_raters_page_has_aliases_that_lead_back_for_this_rater_alone(make):
    project, people = make(2)
    project.add_items(pairs(5))
    shown = project.next(people[0], count=5)
    numbers = {one.item_id for one in shown}
    assert {one.page()["item"] for one in shown}.isdisjoint(numbers)
    me, other = (project.member(person) for person in people)
    assert [me.item(one.page()["item"]) for one in shown] == [one.item_id for one in shown]
    assert not {other.item(one.page()["item"]) for one in shown} & numbers
