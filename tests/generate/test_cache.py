"""Keys that are shared, rows that leave: attention against the definition."""

from __future__ import annotations

import torch

from backflip.generate.torch.cache import SharedCache, attention

KV, REPEATS, DIM = 2, 3, 4
WIDTH = 2 * KV * DIM


def cache_of(max_rows: int = 6) -> SharedCache:
    return SharedCache(
        layers=1, kv_heads=KV, repeats=REPEATS, head_dim=DIM, max_rows=max_rows, like=torch.zeros(1)
    )


def by_definition(q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
    """One query per head, (repeat, key head), over all keys of its sequence."""
    k, v = kv.unflatten(-1, (2, KV, DIM)).unbind(1)
    heads = [
        ((k[:, head] @ q[r * KV + head]) / DIM**0.5).softmax(0) @ v[:, head]
        for r in range(REPEATS)
        for head in range(KV)
    ]
    return torch.cat(heads)


def test_two_softmaxes_merge_into_one():
    """Keys cut in two parts, weighed by sigmoid(lse₁ - lse₂), against all keys at once."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 1, 3, DIM), torch.randn(2, 1, 9, DIM), torch.randn(2, 1, 9, DIM)
    whole, lse = attention(q, k, v, None)
    (a, lse_a), (b, lse_b) = (attention(q, k[:, :, s], v[:, :, s], None) for s in PARTS)
    merged = torch.lerp(b, a, torch.sigmoid(lse_a - lse_b)[..., None])
    torch.testing.assert_close(merged, whole)
    torch.testing.assert_close(torch.logaddexp(lse_a, lse_b), lse)
    torch.testing.assert_close(lse, (q @ k.transpose(-1, -2) / DIM**0.5).logsumexp(-1))


PARTS = (slice(0, 4), slice(4, 9))


def test_rows_come_and_go_and_each_sees_its_own_sequence():
    """Three prompts, 90 steps (beyond the first chunk); rows leave and others take their place."""
    torch.manual_seed(1)
    cache = cache_of()
    lengths, answers = [70, 5, 31], [4, 3, 5]
    prompts = [torch.randn(n, WIDTH) for n in lengths]
    queue = [p for p in range(3) for _ in range(answers[p])]
    histories: list[list[torch.Tensor]] = []
    owners: list[int] = []
    for step in range(90):
        leaving = {int(torch.randint(len(owners), ()))} if owners and step % 7 == 3 else set()
        kept = [row for row in range(len(owners)) if row not in leaving]
        if leaving:
            cache.keep(kept)
            histories, owners = [histories[r] for r in kept], [owners[r] for r in kept]
        while queue and len(owners) < 6:
            prompt = queue.pop(0)
            if prompt not in cache.slot_prompt:
                cache.reserve(len(cache.slot_prompt) + 1, lengths[prompt])
                cache.write_prompt(
                    0, cache.add_prompt(prompt, lengths[prompt], answers[prompt]), prompts[prompt]
                )
            cache.add_rows([cache.slot_prompt.index(prompt)])
            owners.append(prompt)
            histories.append([])
        if not owners:
            break
        assert cache.positions() == [
            lengths[p] + len(h) for p, h in zip(owners, histories, strict=True)
        ]
        q, kv = torch.randn(len(owners), REPEATS * KV, DIM), torch.randn(len(owners), WIDTH)
        cache.advance()
        seen = cache.attend(0, q, kv, cache.write_at, cache.own_bias)
        for row, history in enumerate(histories):
            history.append(kv[row])
            everything = torch.cat([prompts[owners[row]], torch.stack(history)])
            torch.testing.assert_close(seen[row], by_definition(q[row], everything))


def test_a_prompt_goes_with_its_last_answer_and_not_before():
    """Its first answers may be done while others still wait for a place."""
    cache = cache_of()
    cache.reserve(2, 10)
    for prompt in (7, 8):
        cache.add_prompt(prompt, 10, 3)
    cache.add_rows([0, 0, 1, 1])
    cache.keep([2, 3])
    assert cache.slot_prompt == [7, 8]
    cache.add_rows([0, 1])
    cache.keep([0, 3, 1])
    assert cache.slot_prompt == [8]
    cache.keep([])
    assert cache.slot_prompt == []
