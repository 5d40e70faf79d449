"""A verifier as a source of reward: rollouts in, a judgement out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from backflip.data.batches import Rollouts
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt
from backflip.reward.function import Texts, judged
from backflip.reward.protocol import Judgement
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.base import Verifier

__all__ = ["VerifierReward"]


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
        verdicts = [self._verdict(one) for one in texts]
        return judged([replace(v, score=self.verifier.score(v)) for v in verdicts], texts)

    def _verdict(self, texts: Texts) -> Verdict:
        record = texts.record
        reference, info = (record.reference, record.info) if record else ("", {})
        try:
            return self.verifier.check(texts.answer, reference, texts.prompt, info)
        except Exception as error:  # one answer's, not the run's
            return Verdict("error", reason=f"{type(error).__name__}: {error}"[:200])
