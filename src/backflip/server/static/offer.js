// Replies of several models (or several of one) to a turn of a talk: pick one, rank them, or edit one.

import { announce, answerCard, button, choice, el, LETTERS } from "./dom.js";
import { badge, orderBoard } from "./order.js";

let wished = null; // whether this rater ranks or picks, once they have said so

/** Cards for the stage, choices for the deck. done({index, ranks, words}): the talk goes on with it;
 *  edit(text, done, back) opens an editor in the deck. */
export function offer({ candidates, html }, deck, keys, { done, edit }) {
  const names = [...LETTERS].slice(0, candidates.length);
  const badges = names.map(() => el("span", { class: "badge", "aria-hidden": "true" }));
  const cards = html.map((said, index) => answerCard(names[index], said, el("span", { class: "row" }, badges[index],
    button("Edit", () => editing(index), { class: "button quiet little", "aria-label": `Edit answer ${names[index]}` }))));
  const several = candidates.length > 1;
  const first = choice("Go on with the best", "⏎", goOn, { class: "choice first", disabled: true });
  const board = orderBoard(names, {
    noun: "Answer",
    changed(places) {
      badge(badges, cards, places);
      first.disabled = !places.length;
    },
  });
  const mine = new Set();

  function bind(more) {
    unbind();
    for (const [key, act] of Object.entries(more)) (keys[key] = act), mine.add(key);
  }
  function unbind() {
    mine.forEach((key) => delete keys[key]);
    mine.clear();
  }
  const ranks = () => several && (wished ?? candidates.length > 2);
  function show() {
    if (ranks()) ranking();
    else picking();
    deck.tabIndex = -1; // keys work from here, and Tab goes to the first choice
    deck.focus({ preventScroll: true });
  }
  function picking() {
    badge(badges, cards, []);
    const buttons = names.map((name, index) => choice(`Go on with ${name}`, String(index + 1), () => finish(index, null), { class: "choice first" }));
    deck.replaceChildren(el("div", { class: "others" }, buttons, several ? choice("Rank them", "r", () => change(true)) : null));
    bind({ ...Object.fromEntries(names.map((_, index) => [String(index + 1), () => finish(index, null)])), ...(several ? { r: () => change(true) } : {}) });
  }
  function ranking() {
    badge(badges, cards, board.places());
    deck.replaceChildren(board.node, el("div", { class: "others" }, first, choice("Tie with the last", "t", board.tieLast), choice("Take the last back", "⌫", board.takeLast), choice("Pick one only", "r", () => change(false))));
    bind({ ...board.keys, Enter: goOn, r: () => change(false) });
  }
  function change(rank) {
    wished = rank;
    show();
    announce(rank ? "Rank them: 1, 2, 3 from best to worst." : "Pick one.");
  }

  /** What nobody ranked shares the last place. */
  const given = () => (ranks() && board.count() ? board.ranks(board.places().length) : null);
  function goOn() {
    if (!board.count()) return announce("Rank the best one at least.");
    finish(board.best(), given());
  }
  function finish(index, order, words = null) {
    unbind();
    done({ index, ranks: order, words });
  }
  function editing(index) {
    unbind();
    edit(candidates[index], (words) => finish(index, given(), words === candidates[index] ? null : words), show);
  }

  show();
  return el("li", { class: "offer" }, el("div", { class: `answers ${candidates.length > 2 ? "many" : "two"}` }, cards));
}
