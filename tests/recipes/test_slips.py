"""A slip of the keyboard is answered before anything heavy is imported, in the words of later."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from backflip.errors import UserError
from backflip.recipes import known, listing, slips
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.names import shipped

HEAVY = ("torch", "transformers", "datasets", "numpy", "scipy", "peft", "sqlalchemy", "fastapi")
COMMANDS = {
    "--help": 0,
    "train --help": 0,
    "trian sft": 2,
    "train spo": 2,
    "train no/such/recipe.yaml": 2,
    "train sft modle=x": 2,
    "train sft model": 2,
    "train sft data=missing.jsonl": 2,
    "train sft data=demo:nothing": 2,
    "train reward_model golden=missing.jsonl": 2,
    "train rlhf sft.data=missing.jsonl": 2,
    "train sft model=nothere": 2,
    "train sft optimizer.lr=abc": 2,
    "train sft epochs=0": 2,
    "train sft epochs=2.5": 2,
    "train sft precision=float16": 2,
    "train dpo objective=dop": 2,
    "train dpo objective.betta=0.2": 2,
    "train rlhf ppo.kl_stop=x": 2,
    "train own.yaml": 2,
    "recipe spo": 2,
    "check sft modle=x": 2,
    "check missing.jsonl": 2,
    "check demo:comparisons kind=comparison": 2,
    "check demo:comparisons format=hhh": 2,
    "check demo:comparisons columns.promt=ask": 2,
    "check demo:comparisons model=smollm2 template=chatlm": 2,
    "check demo:comparisons template=missing.jinja": 2,
    "train dpo data.format=hhh": 2,
    "train dpo template=chatlm": 2,
    "train rlhf sft.template=missing.jinja": 2,
    "evaluate owner/name demo:comparisons beta=-1": 2,
    "evaluate owner/name demo:comparisons format=hhh": 2,
    "evaluate smollm2 demo:comparisons": 2,
    "evaluate plain demo:comparisons": 2,
    "best-of-n owner/name demo:prompts reward_model=owner/judge template=missing.jinja": 2,
    "check demo:comparisons model=nothere": 2,
    "evaluate nothere demo:comparisons": 2,
    "evaluate owner/name missing.jsonl reference=owner/other": 2,
    "best-of-n owner/name missing.jsonl reward_model=owner/judge": 2,
    "best-of-n owner/name demo:prompts reward_model=owner/judge n=1": 2,
    "chat nothere": 2,
    "resume nothere": 2,
    "show nothere": 2,
    "show --live nothere": 2,
    "demo modle=x": 2,
}
SCRIPT = """
import contextlib, io, json, sys
from backflip.cli.main import main
found = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main(command.split())
        except SystemExit as end:
            code = end.code
    found[command] = [code, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]
print(json.dumps(found))
"""


def test_no_slip_waits_for_torch(tmp_path):
    """Counted in modules, not in seconds. The first that imports something is the one to blame."""
    (tmp_path / "own.yaml").write_text("stage: sft\ndata: demo:demonstrations\nepochs: many\n")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    run = [sys.executable, "-c", SCRIPT, json.dumps(list(COMMANDS)), json.dumps(HEAVY)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found == {command: [code, []] for command, code in COMMANDS.items()}


def test_what_the_file_says_of_settings_is_what_the_classes_say():
    """Otherwise: python -m backflip.recipes.listing."""
    assert known.FILE.read_text(encoding="utf-8") == listing.listing()
    assert known.believed()


@pytest.mark.parametrize("name", shipped())
def test_no_shipped_recipe_is_taken_for_a_slip(name):
    slips.check(name, ["lora=none", "optimizer.lr=auto", "steps=null"][: 2 * (name == "sft")])


@pytest.mark.parametrize(
    ("recipe", "setting"),
    [
        ("sft", "modle=x"),
        ("sft", "optimizer.lr=abc"),
        ("sft", "optimizer.lr=-1"),
        ("sft", "epochs=0"),
        ("sft", "epochs=2.5"),
        ("sft", "turns=some"),
        ("sft", "activation_checkpointing=perhaps"),
        ("sft", "data.held_out=1"),
        ("sft", "data=missing.jsonl"),
        ("sft", "model=nothere"),
        ("sft", "template=chatlm"),
        ("dpo", "template=./missing.jinja"),
        ("rlhf", "sft.template=chatlm"),
        ("dpo", "objective=dop"),
        ("dpo", "objective.betta=1"),
        ("dpo", "objective.label_smooting=1"),
        ("reward_model", "pooling=max"),
        ("reward_model", "policy=./nothere"),
        ("ppo", "algorithm=pp"),
        ("ppo", "prompts_per_step=many"),
        ("rlhf", "sft.data=missing.jsonl"),
        ("rlhf", "ppo.kl_stop=x"),
        ("iterative_dpo", "rounds=none"),
    ],
)
def test_a_slip_is_told_in_the_same_words_as_by_the_classes(recipe, setting):
    settings = [setting, *(["reward_model=a/b"] if recipe == "ppo" else [])]
    with pytest.raises(UserError) as early:
        slips.check(recipe, settings)
    with pytest.raises(UserError) as late:
        check_recipe(load_recipe(recipe, settings))
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer.lr=1e-4"],
        ["optimizer.lr=auto", "lora=none"],
        ["steps=null", "threads=null"],
        ["trackers=tensorboard"],
        ["data=demo:demonstrations", "data.limit=5"],
        ["data=owner/name", "model=owner/name"],
        ["data=a/b", "data.format=messages", "template=chatml"],
        ["optimizer.betas=[0.9,0.95]"],
    ],
)
def test_what_the_classes_take_is_no_slip(settings):
    slips.check("sft", settings)
    load_recipe("sft", settings)


def test_a_project_has_formats_of_its_own():
    slips.check("dpo", ["data=feedback:tone", "data.format=soft"])
    with pytest.raises(UserError, match="format='soft' is not known"):
        slips.check("dpo", ["data=rows/of", "data.format=soft"])


def test_a_file_that_is_older_than_the_classes_is_not_believed(monkeypatch):
    """A setting that was added since is none of its business."""
    monkeypatch.setattr(known, "believed", lambda: False)
    slips.check("sft", ["brand_new=1"])
