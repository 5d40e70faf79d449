// One answer, good or bad.

import { choice, el, showAnswer } from "../dom.js";

export function mount(stage, deck, item, config, submit) {
  showAnswer(stage, item);
  deck.append(el("div", { class: "big" },
    choice("Bad", "←", () => submit({ up: false })), choice("Good", "→", () => submit({ up: true }))));
  const keys = { ArrowLeft: () => submit({ up: false }), ArrowRight: () => submit({ up: true }) };
  keys.ArrowDown = keys["1"] = keys.ArrowLeft;
  keys.ArrowUp = keys["2"] = keys.ArrowRight;
  return { question: "Is this a good answer?", keys, help: [["→ or 2", "good"], ["← or 1", "bad"]] };
}
