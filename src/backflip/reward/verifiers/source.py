"""A verifier as a source of reward: rollouts in, a judgement out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt
from backflip.reward.function import Texts, judged
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier
from backflip.reward.verifiers.pool import Check, pool_of

__all__ = ["VerifierReward", "check_of"]


@dataclass(frozen=True, kw_only=True)
class VerifierReward:
    """Scores answers by a verifier; the share of each outcome is a part of the judgement."""

    verifier: Verifier
    template: ChatTemplate
    """That of the policy whose tokens are judged."""
    records: Sequence[Prompt]
    """By ``Rollouts.row``."""

    def __call__(self, rollouts: Rollouts) -> Judgement:
        texts = Texts.of(rollouts, self.template, self.records)
        verdicts = self.verdicts(texts)
        found = judged([replace(v, score=self.verifier.score(v)) for v in verdicts], texts)
        if self.verifier.decides and any(one.outcome == "scored" for one in verdicts):
            none = {"correct": torch.zeros_like(found.scores)}
            found = replace(found, parts={**none, **found.parts})
        return found

    def verdicts(self, texts: Sequence[Texts]) -> list[Verdict]:
        """The verdicts on answers, each made in a worker of the pool unless it is linear."""
        checks = [check_of(self.verifier, *_arguments(one)) for one in texts]
        if self.verifier.linear:
            return [check.here() for check in checks]
        return pool_of(self.verifier.workers, self.verifier.memory).make(checks)


def check_of(
    verifier: Verifier, answer: str, reference: str, prompt: str, info: Mapping[str, Any]
) -> Check:
    """The check of one answer, for a worker of the pool."""
    before = tuple((import_module, name) for name in verifier.packages)
    given = (answer, reference, prompt, dict(info))
    return Check(verifier.verdict, given, seconds=verifier.seconds, before=before)


def _arguments(texts: Texts) -> tuple[str, str, str, Mapping[str, Any]]:
    record = texts.record
    reference, info = (record.reference, record.info) if record else ("", {})
    return texts.answer, reference, texts.prompt, info
