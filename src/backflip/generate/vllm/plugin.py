"""Weights of a learner for a vLLM that is running: a back end of its weight transfer.

Runs in vLLM's environment, which knows nothing of Backflip, and is never imported here: ``server``
copies it to where vLLM finds it, with ``ways`` beside it, and starts vLLM with
``--weight-transfer-config '{"backend": "backflip"}'``. Written for vLLM 0.32, whose names these
are.
"""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from backflip_ways import Receiver
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

NAME = "backflip"


@dataclass
class Meeting(WeightTransferInitInfo):
    """How the sides meet."""

    how: dict[str, Any] = field(default_factory=dict)


@dataclass
class Weights(WeightTransferUpdateInfo):
    """The weights, by the names that transformers gives them."""

    of: dict[str, Any]


class Engine(WeightTransferEngine):
    """Takes all weights of a model by the way that was agreed on."""

    init_info_cls, update_info_cls = Meeting, Weights
    supports_draft_weight_update = False
    receiver: Any = None

    def init_transfer_engine(self, init_info: Meeting) -> None:
        own = self.parallel_config
        rank = getattr(own, "data_parallel_index", 0) * own.world_size + own.rank
        self.receiver = Receiver(rank, self.device)
        self.receiver.meet(**init_info.how)

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Without the synchronisation of a device that the base class asks for."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: Weights) -> None:
        self.model.load_weights(self.receiver.weights(update_info.of))

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        self._pack_head()
        self.receiver.settle()

    def _pack_head(self) -> None:
        """A vocabulary head that is tied to the embedding has a packed copy on CPUs, which only
        this renews.
        """
        head = getattr(self.model, "lm_head", None)
        tied = getattr(self.model_config.hf_text_config, "tie_word_embeddings", False)
        if head is not None and tied and head.weight.device.type == "cpu":
            head.quant_method.process_weights_after_loading(head)

    def shutdown(self) -> None:
        if self.receiver is not None:
            self.receiver.close()


def register() -> None:
    """Called by every process of vLLM as it starts."""
    known: Any = WeightTransferEngineFactory
    if NAME not in known._registry:
        known.register_engine(NAME, Engine)
