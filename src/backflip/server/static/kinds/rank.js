// Put K answers in order.

import { announce, answerCard, choice, el, promptBox, LETTERS } from "../dom.js";
import { badge, orderBoard } from "../order.js";

export function mount(stage, deck, item, config, submit) {
  const count = item.answers.length;
  const names = [...LETTERS].slice(0, count);
  const badges = names.map(() => el("span", { class: "badge", "aria-hidden": "true" }));
  const cards = item.answers.map((html, index) => answerCard(names[index], html, badges[index]));
  stage.append(...[promptBox(item.prompt), el("div", { class: `answers ${count > 2 ? "many" : "two"}` }, cards)].filter(Boolean));

  const send = choice("Send", "⏎", finish, { class: "choice first", disabled: true });
  const board = orderBoard(names, {
    noun: "Answer", ranks: item.before?.ranks,
    changed(places) {
      badge(badges, cards, places);
      send.disabled = places.flat().length < 2;
    },
  });
  deck.append(board.node, el("div", { class: "others" }, send, choice("Tie with the last", "t", board.tieLast), choice("Take the last back", "⌫", board.takeLast)));

  function finish() {
    if (board.count() < 2) return announce("Rank two answers at least.");
    submit({ ranks: board.ranks(null) });
  }
  return {
    question: `Put these ${count} answers in order`,
    keys: { ...board.keys, Enter: finish },
    help: [[`1 – ${Math.min(count, 9)}`, "answer A, B, … is next best; again: take it out"], ["t", "tie with the one before"], ["⌫", "take the last back"], ["⏎", "send; what is not ranked stays open"]],
  };
}
