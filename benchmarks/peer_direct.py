"""The peer's side of the direct family: DPOTrainer, KTOTrainer, ORPOTrainer, CPOTrainer."""

from __future__ import annotations

from typing import Any

import transformers
import trl
from datasets import Dataset
from peer import adapters, per_batch, result, settings, steps_of
from timing import BETA, GAMMA
from workloads import LABELS, MAX_LENGTH, Workload


def dpo(load: Workload) -> dict[str, Any]:
    """DPOTrainer on the pairs of each step; the reference reads each batch in its step."""
    return direct_preferences(load, precompute_ref_log_probs=False)


def dpo_cached(load: Workload) -> dict[str, Any]:
    """The same with the reference's numbers computed beforehand."""
    return direct_preferences(load, precompute_ref_log_probs=True)


def direct_preferences(load: Workload, **more: Any) -> dict[str, Any]:
    class Prepared(trl.DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # it holds the token ids that the other side reads

    rows, size = [row for batch in load["pairs"] for row in batch], len(load["pairs"][0])
    data = {
        "prompt_ids": [row["prompt"] for row in rows],
        "chosen_ids": [row["chosen"] for row in rows],
        "rejected_ids": [row["rejected"] for row in rows],
    }
    trainer = Prepared(
        model(load),
        args=settings(trl.DPOConfig, size, load, max_length=None, beta=BETA, **more),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer(load),
        peft_config=adapters(load),
    )
    return measured(trainer, pair_lengths(rows), 2 * size)


def kto(load: Workload) -> dict[str, Any]:
    """KTOTrainer on 16 labelled answers a step."""

    class Prepared(trl.KTOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    rows = [row for batch in load["labels"] for row in batch]
    data = {
        "prompt_ids": [row["prompt"] for row in rows],
        "completion_ids": [row["answer"] for row in rows],
        "KL_completion_ids": [row["mismatched"] for row in rows],
        "label": [row["label"] for row in rows],
    }
    trainer = Prepared(
        model(load),
        args=settings(trl.KTOConfig, LABELS, load, max_length=None, beta=BETA),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer(load),
    )
    lengths = [len(row["prompt"] + row["answer"]) for row in rows]
    return measured(trainer, lengths, LABELS)


def orpo(load: Workload) -> dict[str, Any]:
    """ORPOTrainer on 8 pairs a step. Its loss adds the likelihood of the prompt, ours does not:
    what is compared is the other term.
    """
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    terms: list[float] = []

    class Watched(prepared(ORPOTrainer)):
        def odds_ratio_loss(self, *args: Any, **kwargs: Any) -> Any:
            out = super().odds_ratio_loss(*args, **kwargs)
            terms.append(float(-out[0].mean()))
            return out

    found = reference_free(load, Watched, ORPOConfig, beta=BETA)
    return found | {"losses": terms}


def simpo(load: Workload) -> dict[str, Any]:
    """CPOTrainer with SimPO's loss and nothing else, on 8 pairs a step."""
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    how = {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": GAMMA}
    return reference_free(load, prepared(CPOTrainer), CPOConfig, **how)


def prepared(trainer: Any) -> Any:
    """A trainer that takes the token ids of the workload for its own."""

    class Prepared(trainer):
        def tokenize_row(self, feature: Any, *_: Any, **__: Any) -> dict[str, Any]:
            row: dict[str, Any] = {}
            for side in ("chosen", "rejected"):
                ids = feature["prompt_ids"] + feature[f"{side}_ids"]
                row[f"{side}_input_ids"] = ids
                row[f"{side}_attention_mask"] = [1] * len(ids)
                hidden = [-100] * len(feature["prompt_ids"])
                row[f"{side}_labels"] = hidden + feature[f"{side}_ids"]
            row["prompt_input_ids"] = feature["prompt_ids"]
            row["prompt_attention_mask"] = [1] * len(feature["prompt_ids"])
            return row

    return Prepared


def reference_free(load: Workload, trainer_class: Any, config: Any, **more: Any) -> dict[str, Any]:
    rows, size = [row for batch in load["pairs"] for row in batch], len(load["pairs"][0])
    data: dict[str, list[Any]] = {
        name: ["-"] * len(rows) for name in ("prompt", "chosen", "rejected")
    }
    data |= {f"{name}_ids": [row[name] for row in rows] for name in data}
    trainer = trainer_class(
        model(load),
        args=settings(config, size, load, max_length=MAX_LENGTH, **more),
        train_dataset=Dataset.from_dict(data),
        processing_class=tokenizer(load),
    )
    return measured(trainer, pair_lengths(rows), 2 * size)


def measured(trainer: Any, lengths: list[int], rows: int) -> dict[str, Any]:
    seconds, losses = steps_of(trainer)
    return result(seconds, per_batch(lengths, rows)) | {"losses": losses}


def pair_lengths(rows: list[Any]) -> list[int]:
    return [len(row["prompt"] + row[side]) for row in rows for side in ("chosen", "rejected")]


def model(load: Workload) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(load["model"], dtype=load["dtype"])


def tokenizer(load: Workload) -> Any:
    return transformers.AutoTokenizer.from_pretrained(load["model"])


WORKS = {"dpo": dpo, "dpo_cached": dpo_cached, "kto": kto, "orpo": orpo, "simpo": simpo}
