"""The line end that chat templates write behind the last turn, and a tokenizer that drops it.

A classifier reads its score at the last token. The template that is saved with a reward model
writes nothing there; texts that another template has written still do. Where the tokenizer allows,
its normaliser drops that line end, so that both are the same tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backflip.data.chat import ChatTemplate
from backflip.models.load import quiet

TEXTS = (
    "{0}",
    "Say: yes\n",
    "  two spaces, no end {0}{1}more",
    "{0}{1}{1}Café, naïve: ﬁ Ω 日本\n\n{0}",
    "one{0}{1}two{0}",
    "\n{0} {0}{1} \n",
)
"""Texts that must stay the same tokens; {0} is the end of a turn, {1} the line end behind it."""


def drop_line_end(folder: Path, template: ChatTemplate) -> bool:
    """Rewrite the tokenizer of a saved model so that it drops the line end behind the last turn.

    Returns whether it does so, and reads everything else as before. If not, what was in the folder
    stays.
    """
    end, tail = template.turn_end, template.tail
    if end is None or not tail or tail.strip() or not (folder / "tokenizer.json").is_file():
        return False
    mark = template.tokenizer.convert_ids_to_tokens(end)
    names = ("tokenizer.json", "tokenizer_config.json")
    before = {name: (folder / name).read_text(encoding="utf-8") for name in names}
    raw, settings = (json.loads(text) for text in before.values())
    for token in raw["added_tokens"]:
        token["normalized"] = True  # else texts are cut there before they are normalised
    drop = {
        "type": "Replace",
        "pattern": {"Regex": rf"(?<={re.escape(mark)}){re.escape(tail)}\z"},
        "content": "",
    }
    own = raw.get("normalizer")
    raw["normalizer"] = {"type": "Sequence", "normalizers": [own, drop]} if own else drop
    for settings_of_token in settings.get("added_tokens_decoder", {}).values():
        settings_of_token["normalized"] = True
    # Classes of their own would make the normaliser anew.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    after = dict(
        zip(names, (json.dumps(x, ensure_ascii=False) for x in (raw, settings)), strict=True)
    )
    _write(folder, after)
    if _drops(folder, template.tokenizer, mark, tail):
        return True
    _write(folder, before)
    return False


def _write(folder: Path, texts: Mapping[Any, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _drops(folder: Path, tokenizer: Any, mark: str, tail: str) -> bool:
    """Whether the tokenizer of the folder differs from the other by the last line end only."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            new = AutoTokenizer.from_pretrained(folder)
    except Exception:  # whatever a tokenizer makes of settings that it does not know
        return False

    def ids(which: Any, text: str) -> list[int]:
        return list(which(text, add_special_tokens=False)["input_ids"])

    texts = [text.format(mark, tail) for text in TEXTS]
    same = all(ids(new, text) == ids(tokenizer, text) for text in texts)
    dropped = all(
        ids(new, text + mark + tail) == ids(tokenizer, text + mark) for text in (*texts, "Say")
    )
    with_special = [list(which("Say")["input_ids"]) for which in (new, tokenizer)]
    return same and dropped and with_special[0] == with_special[1]
