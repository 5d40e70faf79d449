"""The numbers under which a rater knows items.

Items are numbered as they came, so a block of gold items could be told by its numbers. Each rater
gets numbers of their own instead: a permutation of 0 … 2⁵² − 1, keyed by the project's secret and
the rater, of four rounds of Feistel's network over a keyed hash (Luby and Rackoff, 1988). The key
alone leads back, so nothing has to be stored. A browser holds 53 bits exactly.
"""

from __future__ import annotations

from hashlib import blake2b

HALF = 26
"""Bits of half a number."""
ROUNDS = 4
LOW = (1 << HALF) - 1


def alias_of(item: int, key: str) -> int:
    """The number of an item for the holder of a key."""
    left, right = item >> HALF, item & LOW
    for turn in range(ROUNDS):
        left, right = right, left ^ _mixed(right, turn, key)
    return left << HALF | right


def item_of(alias: int, key: str) -> int:
    """The item behind an alias; −1, which is no item, for what is no alias."""
    if not 0 <= alias < 1 << 2 * HALF:
        return -1
    left, right = alias >> HALF, alias & LOW
    for turn in reversed(range(ROUNDS)):
        left, right = right ^ _mixed(left, turn, key), left
    return left << HALF | right


def _mixed(half: int, turn: int, key: str) -> int:
    made = blake2b(b"%d:%d" % (turn, half), key=key.encode(), digest_size=4)
    return int.from_bytes(made.digest()) & LOW
