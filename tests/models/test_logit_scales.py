"""Log-probabilities are those of the model's own logits, or none at all."""

from __future__ import annotations

import pytest
import torch
from transformers import BloomForCausalLM

from backflip.errors import UserError
from backflip.models.causal import CausalPolicy
from tests.models.families import FALLBACK, SCALED, tiny
from tests.models.test_policy_forest import TOLERANCE, naive_logp, ragged_steps

pytestmark = pytest.mark.filterwarnings("ignore:.*prefix forest")


@pytest.mark.parametrize("family", SCALED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_scaled_logits_give_the_log_probabilities_of_the_model(family, dtype):
    steps, model = ragged_steps(), tiny(family).to(dtype)
    expected = naive_logp(model, steps, temperature=0.7)
    logp = CausalPolicy(model, temperature=0.7).evaluate(steps)["logp"]
    tolerance = TOLERANCE if dtype == torch.float32 else {"atol": 0.3, "rtol": 0.05}
    torch.testing.assert_close(logp, expected, **tolerance)


class Doubled(BloomForCausalLM):
    """A model that changes its logits as nobody expects."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        out.logits = out.logits * 2
        return out


def test_logits_changed_in_an_unknown_way_are_refused():
    torch.manual_seed(0)
    with pytest.raises(UserError, match=r"bloom changes its logits.*50%.*another type") as error:
        CausalPolicy(Doubled(FALLBACK["bloom"]))
    assert "\n" not in str(error.value)
