"""The peer's side: ``python peer.py WORK WORKLOAD.json`` in a Python that has TRL.

TRL's own trainers take their own training steps; we watch when a step ends and what its loss was.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import tempfile
from itertools import pairwise
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from timing import ALPHA, LR, RANK, answer, cheap_reward, now, peak_gb, score_head, timed, versions
from workloads import ANSWER_TOKENS, GROUP, MAX_LENGTH, Workload

transformers.utils.logging.set_verbosity_error()


def reward_model(load: Workload) -> dict[str, Any]:
    """RewardTrainer on the pairs of each step, all weights."""
    rows, size = [row for batch in load["pairs"] for row in batch], len(load["pairs"][0])
    data = {
        "chosen_ids": [row["prompt"] + row["chosen"] for row in rows],
        "rejected_ids": [row["prompt"] + row["rejected"] for row in rows],
    }
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(load["model"], dtype=load["dtype"], num_labels=1)
    with torch.no_grad():
        model.score.weight.copy_(score_head(model.config.hidden_size))
    trainer = trl.RewardTrainer(
        model,
        settings(trl.RewardConfig, size, load, max_length=MAX_LENGTH, pad_token=load["pad"]),
        train_dataset=Dataset.from_dict(data),
        processing_class=transformers.AutoTokenizer.from_pretrained(load["model"]),
    )
    seconds, losses = steps_of(trainer)
    sequences = [len(ids) for pair in zip(*data.values(), strict=True) for ids in pair]
    return result(seconds, per_batch(sequences, 2 * size)) | {"losses": losses}


def sft(load: Workload) -> dict[str, Any]:
    """SFTTrainer on the conversations of each step, loss on the completion alone."""
    size = len(load["demonstrations"][0])
    rows = [row for batch in load["demonstrations"] for row in batch]
    data = {
        "input_ids": [row["prompt"] + row["answer"] for row in rows],
        "completion_mask": [[0] * len(row["prompt"]) + [1] * len(row["answer"]) for row in rows],
    }
    auto = transformers.AutoModelForCausalLM
    trainer = trl.SFTTrainer(
        auto.from_pretrained(load["model"], dtype=load["dtype"]),
        settings(trl.SFTConfig, size, load, max_length=MAX_LENGTH, completion_only_loss=True),
        train_dataset=Dataset.from_dict(data),
        processing_class=transformers.AutoTokenizer.from_pretrained(load["model"]),
        peft_config=adapters(load),
    )
    seconds, losses = steps_of(trainer)
    tokens = per_batch([len(ids) for ids in data["input_ids"]], size)
    return result(seconds, tokens) | {"losses": losses}


def sampling(load: Workload) -> dict[str, Any]:
    """transformers.generate with the whole vocabulary, padded on the left."""
    return written(load, load["prompts"], GROUP, {})


def written(load: Workload, batches: Any, group: int, more: dict[str, Any]) -> dict[str, Any]:
    """``group`` answers to each prompt of every batch, counted up to their stop token."""
    auto = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(load["model"], dtype=load["dtype"]).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    stop = load["stop"]
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, **more}
    how |= {"max_new_tokens": ANSWER_TOKENS, "num_return_sequences": group}

    @torch.inference_mode()
    def step(prompts: list[Any]) -> int:
        width = max(len(prompt["tokens"]) for prompt in prompts)
        gaps = [width - len(prompt["tokens"]) for prompt in prompts]
        rows = [[stop] * gap + p["tokens"] for gap, p in zip(gaps, prompts, strict=True)]
        seen = [[0] * gap + [1] * (width - gap) for gap in gaps]
        out = model.generate(
            torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(seen, device=model.device),
            eos_token_id=stop,
            pad_token_id=stop,
            **how,
        )
        answers = out[:, width:].tolist()
        if "min_new_tokens" in more:
            return sum(map(len, answers))
        return sum(a.index(stop) + 1 if stop in a else len(a) for a in answers)

    torch.manual_seed(0)
    seconds, tokens = timed(step, batches)
    return result(seconds, tokens[1:])


def ppo(load: Workload) -> dict[str, Any]:
    """GRPOTrainer's step on the same prompts: no critic, reference or reward model."""
    return online(load, trl.GRPOTrainer, trl.GRPOConfig)


def online(load: Workload, kind: Any, config: Any, **more: Any) -> dict[str, Any]:
    """A trainer's own steps of sampling and learning, with a reward that costs nothing."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(load["model"])
    prompts = [prompt for batch in load["prompts"] for prompt in batch]
    for prompt in prompts:
        chat = tokenizer.apply_chat_template(prompt["messages"], add_generation_prompt=True)
        assert chat["input_ids"] == prompt["tokens"], "the peer reads other tokens"
    written: list[int] = []

    def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
        written.append(sum(map(len, completion_ids)))
        return [cheap_reward(ids) for ids in completion_ids]

    trainer = kind(
        transformers.AutoModelForCausalLM.from_pretrained(load["model"], dtype=load["dtype"]),
        rewards,
        settings(
            config,
            GROUP * len(load["prompts"][0]),
            load,
            num_generations=GROUP,
            max_completion_length=ANSWER_TOKENS,
            generation_kwargs={"min_new_tokens": ANSWER_TOKENS},
            shuffle_dataset=False,
            **more,
        ),
        train_dataset=Dataset.from_dict({"prompt": [prompt["messages"] for prompt in prompts]}),
        processing_class=tokenizer,
        peft_config=adapters(load),
    )
    seconds, _ = steps_of(trainer)
    return result(seconds, written[1:])


def adapters(load: Workload) -> Any:
    """Those of the other side, or none."""
    if not load.get("lora"):
        return None
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear")


def settings(config: Any, rows: int, load: Workload, **more: Any) -> Any:
    """In the type of the weights, without autocast or checkpointing; rows in order, nothing logged,
    saved or shown.

    Adapters, which are in float32, multiply in bfloat16. ``rows``: of a step, which is cut into
    micro-batches by halves until ``at_once`` sequences are in each.
    """
    each = rows if config in (trl.GRPOConfig, trl.RLOOConfig, trl.SFTConfig) else 2 * rows
    parts = 1
    while each / parts > load.get("at_once", each) and rows % (2 * parts) == 0:
        parts *= 2
    if config not in (trl.GRPOConfig, trl.RLOOConfig):
        more["train_sampling_strategy"] = "sequential"
    if config is not trl.SFTConfig:  # it has no such switch, and the models here no dropout
        more["disable_dropout"] = True
    return config(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows // parts,
        gradient_accumulation_steps=parts,
        max_steps=len(load["pairs"]),
        learning_rate=LR,
        lr_scheduler_type="constant",
        adam_epsilon=1e-5,
        max_grad_norm=1.0,
        bf16=bool(load.get("lora")) and load["dtype"] == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


class Clock(transformers.TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(now())


def steps_of(trainer: Any) -> tuple[list[float], list[float]]:
    """Train; seconds of every step but the first, and the loss of every step."""
    clock, losses, take_step = Clock(), [], trainer.training_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        losses.append(take_step(*args, **kwargs))
        return losses[-1]

    trainer.training_step = watched
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(clock)
    trainer.train()
    ends, parts = clock.ends, trainer.args.gradient_accumulation_steps
    each = [float(loss) for loss in losses]  # of a micro-batch, already divided by their number
    whole = [sum(each[start : start + parts]) for start in range(0, len(each), parts)]
    return [b - a for a, b in pairwise(ends)], whole


def per_batch(lengths: list[int], rows: int) -> list[int]:
    """Tokens in every batch but the first."""
    return [sum(lengths[i : i + rows]) for i in range(rows, len(lengths), rows)]


def result(seconds: list[float], tokens: list[int]) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "tokens": tokens,
        "gb": peak_gb(),
        "versions": versions("torch", "transformers", "trl"),
    }


if __name__ == "__main__":
    import peer_direct
    import peer_online

    mine = {"reward_model": reward_model, "sft": sft, "sampling": sampling, "ppo": ppo}
    answer(mine | peer_direct.WORKS | peer_online.WORKS)
