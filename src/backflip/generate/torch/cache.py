"""Keys and values of answers that share prompts: a prompt's are stored once.

A row is an answer that is being written; a slot is a prompt that has rows. Rows that leave are
replaced by the last ones, so that rows 0 … R-1 are always the live ones, and so are slots.
Heads are ordered (repeat, key head): what is shared stays innermost, and attention over a slot
sees the queries of all its rows as one long query without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 64


@dataclass(frozen=True)
class Grid:
    """Rows laid out as slots × members, so that those of a slot stand side by side."""

    members: int
    """Most rows that a slot has."""
    row: Int[Tensor, " S*M"]
    """The row in each place; empty places repeat row 0."""
    place: Int[Tensor, " R"]
    """The place of each row."""
    in_order: bool
    """Whether rows stand in their own order, without an empty place."""

    @staticmethod
    def of(row_slot: Sequence[int], slots: int, device: torch.device) -> Grid:
        """The grid of rows whose slots are ``row_slot``."""
        standing: list[list[int]] = [[] for _ in range(slots)]
        place: list[tuple[int, int]] = []
        for row, slot in enumerate(row_slot):
            place.append((slot, len(standing[slot])))
            standing[slot].append(row)
        members = max((len(rows) for rows in standing), default=0)
        grid = [row for rows in standing for row in rows + [0] * (members - len(rows))]
        flat = [slot * members + member for slot, member in place]
        identity = list(range(len(row_slot)))
        return Grid(
            members,
            torch.tensor(grid, dtype=torch.long, device=device),
            torch.tensor(flat, dtype=torch.long, device=device),
            in_order=grid == identity and flat == identity,
        )

    def placed(self, x: Tensor) -> Tensor:
        """[R, …] → [S·M, …]: by row, now by place."""
        return x if self.in_order else x.index_select(0, self.row)

    def by_row(self, x: Tensor) -> Tensor:
        """[S·M, …] → [R, …]: by place, now by row."""
        return x if self.in_order else x.index_select(0, self.place)


class SharedCache:
    """Preallocated; grows by doubling."""

    def __init__(
        self,
        *,
        layers: int,
        kv_heads: int,
        repeats: int,
        head_dim: int,
        max_rows: int,
        like: Tensor,
        room: int = CHUNK,
    ) -> None:
        """``like``: a tensor with the dtype and device of keys and values.

        ``room``: tokens of an answer before memory grows.
        """
        self.layers, self.kv_heads, self.repeats = layers, kv_heads, repeats
        self.head_dim, self.max_rows = head_dim, max_rows
        self.width = 2 * kv_heads * head_dim
        self.like = like
        self.arrangement = 0
        """Another number whenever rows, prompts or memory are laid out anew."""
        self.own = like.new_zeros(layers, max_rows, room, self.width)
        self.shared = like.new_zeros(layers, 0, 0, self.width)
        self.row_slot: list[int] = []
        self.row_length: list[int] = []
        self.slot_prompt: list[int] = []
        self.slot_length: list[int] = []
        self.slot_left: list[int] = []
        self._regroup()

    # Who is there

    def add_prompt(self, prompt: int, length: int, answers: int) -> int:
        """A slot for a prompt that ``answers`` rows will share before it may go."""
        self.slot_prompt.append(prompt)
        self.slot_length.append(length)
        self.slot_left.append(answers)
        return len(self.slot_prompt) - 1

    def reserve(self, slots: int, length: int) -> None:
        """Make room for so many prompts of up to this length, those that are here included."""
        have, room = self.shared.shape[1:3]
        if slots > have or length > room:
            more = max(slots, min(2 * have, self.max_rows))
            self.shared = grown(self.shared, max(more, have), max(room, _round_up(length)))
            self.arrangement += 1

    def add_rows(self, slots: Sequence[int]) -> None:
        """New answers, still empty."""
        self.row_slot.extend(slots)
        self.row_length.extend(0 for _ in slots)
        self._regroup()

    def keep(self, rows: Sequence[int]) -> None:
        """Row i becomes what row ``rows[i]`` was; rows that are not named have left.

        A row may only move down: ``rows[i] >= i``.
        """
        for gone in set(range(len(self.row_slot))) - set(rows):
            self.slot_left[self.row_slot[gone]] -= 1
        used = max(self.row_length, default=0)
        for new, old in enumerate(rows):
            if new != old:
                self.own[:, new, :used] = self.own[:, old, :used]
        self.row_slot = [self.row_slot[old] for old in rows]
        self.row_length = [self.row_length[old] for old in rows]
        self._drop_slots()
        self._regroup()

    def _drop_slots(self) -> None:
        for slot in reversed(range(len(self.slot_prompt))):
            if self.slot_left[slot]:
                continue
            last = len(self.slot_prompt) - 1
            if slot != last:
                used = self.slot_length[last]
                self.shared[:, slot, :used] = self.shared[:, last, :used]
                self.row_slot = [slot if s == last else s for s in self.row_slot]
            for column in (self.slot_prompt, self.slot_length, self.slot_left):
                column[slot] = column[last]
                column.pop()

    def _regroup(self) -> None:
        self.grid = Grid.of(self.row_slot, len(self.slot_prompt), self.like.device)
        self.arrangement += 1
        self.shared_span = max(self.slot_length, default=0)
        self.shared_bias = length_bias(self.slot_length, self.shared_span, self.like)

    # A step

    def positions(self) -> list[int]:
        """Where in its sequence the next token of each row stands."""
        return [
            self.slot_length[slot] + length
            for slot, length in zip(self.row_slot, self.row_length, strict=True)
        ]

    def advance(self, *, fixed: bool = False) -> None:
        """Make room for one more token in every row.

        ``fixed``: look at all the room there is, so that shapes stay the same until it is full.
        """
        span = max(self.row_length) + 1
        room = self.own.shape[2]
        if span > room:
            room = 2 * room
            self.own = grown(self.own, self.max_rows, room)
            self.arrangement += 1
        flat = [row * room + length for row, length in enumerate(self.row_length)]
        self.write_at = torch.tensor(flat, device=self.like.device)
        self.row_length = [length + 1 for length in self.row_length]
        self.own_span = room if fixed else span
        self.own_bias = length_bias(self.row_length, self.own_span, self.like, always=fixed)

    def write_prompt(self, layer: int, slot: int, kv: Float[Tensor, "P W"]) -> None:
        """Keys and values of a whole prompt in one layer."""
        self.shared[layer, slot, : len(kv)] = kv

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "R H D"],
        kv: Float[Tensor, "R W"],
        write_at: Int[Tensor, " R"],
        own_bias: Float[Tensor, "R 1 1 M"] | None,
    ) -> Float[Tensor, "R HD"]:
        """Store the keys and values of one token per row, then look at prompt and answer."""
        rows, repeats, kv_heads = len(q), self.repeats, self.kv_heads
        self.own[layer].flatten(0, 1).index_copy_(0, write_at, kv)
        q = q.reshape(rows, repeats, kv_heads, self.head_dim)
        own, own_lse = attention(
            q.transpose(1, 2),
            *keys_and_values(self.own[layer, :rows, : self.own_span], kv_heads),
            own_bias,
        )
        slots, members = len(self.slot_prompt), self.grid.members
        asking = self.grid.placed(q).reshape(slots, members * repeats, kv_heads, self.head_dim)
        shared, lse = attention(
            asking.transpose(1, 2),
            *keys_and_values(self.shared[layer, :slots, : self.shared_span], kv_heads),
            self.shared_bias,
        )
        shared = shared.transpose(1, 2).reshape(slots * members, repeats, kv_heads, self.head_dim)
        lse = lse.transpose(1, 2).reshape(slots * members, repeats, kv_heads)
        shared, lse = self.grid.by_row(shared), self.grid.by_row(lse)
        weight = torch.sigmoid(lse - own_lse.transpose(1, 2))[..., None].to(shared.dtype)
        return torch.lerp(own.transpose(1, 2), shared, weight).reshape(rows, -1)


def read_by(cache: SharedCache, row: int) -> Float[Tensor, "L M W"]:
    """A copy of the keys and values of a row, its prompt's included."""
    slot = cache.row_slot[row]
    prompt = cache.shared[:, slot, : cache.slot_length[slot]]
    return torch.cat([prompt, cache.own[:, row, : cache.row_length[row]]], 1)


def keys_and_values(kv: Float[Tensor, "B M W"], kv_heads: int) -> tuple[Tensor, Tensor]:
    """Keys and values of some rows, each [B, kv_heads, M, head_dim]."""
    both = kv.unflatten(-1, (2, kv_heads, -1)).permute(2, 0, 3, 1, 4)
    return both[0], both[1]


def grown(memory: Float[Tensor, "L R M W"], rows: int, length: int) -> Float[Tensor, "L r m W"]:
    """Memory for more rows, longer ones.

    Zeros, not just any memory: a NaN behind a row's end would survive a weight of 0.
    """
    layers, have, room, width = memory.shape
    larger = memory.new_zeros(layers, rows, length, width)
    larger[:, :have, :room] = memory
    return larger


def length_bias(
    lengths: Sequence[int], span: int, like: Tensor, *, always: bool = False
) -> Float[Tensor, "B 1 1 span"] | None:
    """-inf behind each length; None where all are equal, unless there must be one."""
    if not always and all(length == span for length in lengths):
        return None
    ends = torch.tensor(lengths, device=like.device)[:, None]
    behind = torch.arange(span, device=like.device) >= ends
    zeros = like.new_zeros(len(lengths), span)
    return zeros.masked_fill(behind, float("-inf"))[:, None, None]


def attention(
    q: Float[Tensor, "B H N D"],
    k: Float[Tensor, "B H M D"],
    v: Float[Tensor, "B H M D"],
    bias: Float[Tensor, "B 1 1 M"] | None,
) -> tuple[Float[Tensor, "B H N D"], Float[Tensor, "B H N"]]:
    """softmax(q kᵀ / √D + bias) v, and the logarithm of the softmax's denominator.

    Two results over disjoint keys merge with the weight sigmoid(lse₁ - lse₂).
    """
    if q.device.type == "cpu":
        flash = flash_for_cpu()
        if flash is not None:
            return flash(q, k, v, attn_mask=bias)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    scores = scores if bias is None else scores + bias
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(v.dtype) @ v, lse


def flash_for_cpu() -> Callable[..., tuple[Tensor, Tensor]] | None:
    """The fused kernel that also hands out the denominator, where this torch has it."""
    return getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def _round_up(length: int) -> int:
    return -(-length // CHUNK) * CHUNK
