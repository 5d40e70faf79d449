// A principle to vote on.

import { choice, el } from "../dom.js";

export function mount(stage, deck, item, config, submit) {
  stage.append(el("blockquote", { class: "principle card", html: item.principle }));
  const vote = (word) => () => submit({ vote: word });
  deck.append(el("div", { class: "big" }, choice("Disagree", "←", vote("disagree")), choice("Pass", "↓", vote("pass")), choice("Agree", "→", vote("agree"))));
  const keys = { ArrowLeft: vote("disagree"), ArrowRight: vote("agree"), ArrowDown: vote("pass"), 1: vote("disagree"), 2: vote("pass"), 3: vote("agree") };
  return { question: "Should a model follow this principle?", keys, help: [["→ or 3", "agree"], ["← or 1", "disagree"], ["↓ or 2", "pass"]] };
}
