"""Who guesses at passwords waits longer and longer; nobody else does."""

from __future__ import annotations

import pytest

from backflip.feedback.projects import guessing
from backflip.feedback.projects.guessing import FREE, LONGEST, Guessing, delay, network
from tests.feedback.conftest import Turned


@pytest.fixture
def tries(store) -> Guessing:
    return Guessing(store.database, b"secret", per_minute=6.0)


def wrong(tries: Guessing, place: str, account: str, count: int, clock: Turned) -> list[float]:
    """So many wrong tries, each as soon as it is let in; the seconds that each took."""
    waits = list[float]()
    for _ in range(count):
        begun = clock.now
        while wait := tries.attempt(place, account):
            clock.now += wait
        waits.append(clock.now - begun)
    return waits


def test_each_wrong_try_takes_twice_as_long_as_the_one_before(tries, clock):
    waits = wrong(tries, "1.1.1.1", "ada@x.org", FREE + 12, clock)
    assert waits[:FREE] == [0.0] * FREE
    slowed = waits[FREE:]
    assert slowed[:4] == [1.0, 2.0, 4.0, 8.0]
    assert slowed == sorted(slowed)
    assert slowed[-1] == LONGEST


def test_the_owner_from_elsewhere_waits_for_nothing(tries, clock):
    wrong(tries, "1.1.1.1", "ada@x.org", FREE + 8, clock)
    assert tries.attempt("1.1.1.1", "ADA@x.org ") > 0
    assert tries.attempt("2.2.2.2", "ada@x.org") == 0


def test_a_right_password_forgets_the_wrong_ones(tries, clock):
    wrong(tries, "1.1.1.1", "ada@x.org", FREE + 3, clock)
    clock.now += LONGEST
    assert tries.attempt("1.1.1.1", "ada@x.org") == 0
    tries.right("1.1.1.1", "ada@x.org")
    assert wrong(tries, "1.1.1.1", "ada@x.org", FREE, clock) == [0.0] * FREE


def test_a_list_of_accounts_cannot_be_tried_and_an_office_keeps_working(tries, clock):
    """Its colleagues have signed in from there; who never has waits a few seconds."""
    office = "3.3.3.3"
    for n in range(40):
        assert tries.attempt(office, f"r{n}@x.org") == 0
        tries.right(office, f"r{n}@x.org")
    guessed = [tries.attempt(office, f"list{n}@x.org") for n in range(30)]
    assert guessed[:18] == [0.0] * 18
    assert all(wait > 0 for wait in guessed[18:])
    assert [tries.attempt(office, f"r{n}@x.org") for n in range(40)] == [0.0] * 40
    assert 0 < tries.attempt(office, "new@x.org") <= 10.0
    assert tries.attempt("4.4.4.4", "new@x.org") == 0


def test_tries_at_the_same_time_are_no_way_around(tries):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: tries.attempt("1.1.1.1", "ada@x.org"), range(16)))
    assert sum(wait == 0 for wait in waits) <= 8, "one for each that came at the same moment"


def test_several_processes_count_together(store, clock):
    several = [Guessing(store.database, b"secret", per_minute=600.0) for _ in range(3)]
    waits = [one.attempt("1.1.1.1", "ada@x.org") for _ in range(2) for one in several]
    assert [wait > 0 for wait in waits] == [False] * FREE + [True] * 2


def test_what_is_remembered_is_bounded_and_names_nobody(tries, store, monkeypatch):
    from sqlalchemy import text

    monkeypatch.setattr(guessing, "MOST", 50)
    monkeypatch.setattr(guessing, "TIDY", 1)
    for n in range(120):
        tries.attempt(f"10.0.0.{n}", f"r{n}@x.org")
    with store.database.read() as connection:
        rows = connection.execute(text("SELECT * FROM tries")).all()
    assert len(rows) <= 50
    assert "x.org" not in str(rows)
    assert "10.0" not in str(rows)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_network_counts_as_one(address: str, counted: str):
    assert network(address) == counted


def test_no_delay_overflows():
    assert delay(1e9) == LONGEST
