// Two answers or two clips, on a scale of 2 to 9 points; tie, both bad, cannot tell.

import { answerCard, button, choice, el, promptBox, LETTERS } from "./dom.js";
import { clipCard, clipKeys } from "./clip_cards.js";
import { ask } from "./reason.js";

const STRENGTHS = {
  1: ["better"],
  2: ["better", "much better"],
  3: ["slightly better", "better", "much better"],
  4: ["barely better", "slightly better", "better", "much better"],
};
const WHY = ["They are equal to me in every way", "I lack the knowledge", "The question makes no sense", "I cannot see or read one of them"];

/** The points of a scale from left to right: {label, value}. */
export function points(scale) {
  const levels = Math.floor(scale / 2);
  const side = (letter) => STRENGTHS[levels].map((word, index) => ({
    label: `${letter} ${word}`, side: letter, word, level: index + 1,
    value: { choice: letter.toLowerCase(), strength: index + 1 },
  }));
  const middle = scale % 2 ? [{ label: "About the same", word: "about the same", side: "=", level: 0, value: { choice: "tie" } }] : [];
  return [...side("A").reverse(), ...middle, ...side("B")];
}

export function mount(stage, deck, item, config, submit) {
  const clips = item.clips ? item.clips.map((clip, index) => clipCard(LETTERS[index], clip)) : null;
  const cards = clips || item.answers.map((html, index) => answerCard(LETTERS[index], html));
  stage.append(...[promptBox(item.prompt), el("div", { class: "answers two" }, cards)].filter(Boolean));

  const marks = points(config.scale);
  let at = null;
  const scale = el("div", { class: `scale points-${marks.length}${marks.length > 4 ? " many" : ""}`, role: "group", "aria-label": "Which is better?" });
  const buttons = marks.map((mark, index) => {
    const node = button("", () => submit(mark.value), {
      class: `point side-${mark.side === "=" ? "t" : mark.side.toLowerCase()}`, "aria-label": mark.label, "aria-keyshortcuts": String(index + 1), title: mark.label,
    });
    node.dataset.level = mark.level;
    node.append(el("span", { class: "label", "aria-hidden": "true" }, mark.label), el("kbd", { "aria-hidden": "true" }, String(index + 1)));
    return node;
  });
  scale.append(...buttons);
  const said = el("p", { class: "ends", "aria-hidden": "true" }, el("span", {}, marks[0].label), el("span", {}, marks[marks.length - 1].label));

  const cannotTell = async () => {
    const reason = await ask({ title: "Why can you not tell?", reasons: WHY, needed: true, action: "Send", value: item.before?.reason, place: `${config.project}:${config.person}:${item.item}:cannot tell` });
    if (reason) submit({ choice: "cannot_tell", reason });
  };
  const tieByScale = marks.some((mark) => mark.side === "=");
  const others = el("div", { class: "others" });
  if (config.allow_tie && !tieByScale) others.append(choice("Tie", "↑", () => submit({ choice: "tie" })));
  if (config.allow_both_bad) others.append(choice("Both bad", "b", () => submit({ choice: "both_bad" })));
  others.append(choice("Cannot tell", "↓", cannotTell));
  deck.append(el("div", { class: "choices" }, el("div", { class: "scale-box" }, scale, marks.length > 4 ? said : null), others));

  function point(index) {
    at = Math.max(0, Math.min(marks.length - 1, index));
    buttons.forEach((node, number) => node.classList.toggle("at", number === at));
    buttons[at].focus({ preventScroll: true });
  }

  function step(direction) {
    if (marks.length === 2) return submit(marks[direction > 0 ? 1 : 0].value);
    const half = Math.floor(marks.length / 2);
    if (at === null) return point(direction > 0 ? marks.length - half : half - 1);
    return point(at + direction);
  }

  const keys = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    ArrowUp: () => (config.allow_tie || tieByScale) && submit({ choice: "tie" }),
    ArrowDown: cannotTell,
    b: () => config.allow_both_bad && submit({ choice: "both_bad" }),
    Enter: () => at !== null && submit(marks[at].value),
    ...(clips ? clipKeys(clips) : {}),
  };
  marks.forEach((mark, index) => (keys[String(index + 1)] = () => submit(mark.value)));
  return { question: clips ? "Which clip is better?" : "Which answer is better?", keys, help: help(marks, config, tieByScale, clips) };
}

function help(marks, config, tieByScale, clips) {
  const rows = [[`1 – ${marks.length}`, "a point of the scale, from A to B"]];
  rows.push(marks.length === 2 ? ["← →", "A or B is better"] : ["← → then ⏎", "move along the scale, then send"]);
  if (config.allow_tie || tieByScale) rows.push(["↑", "tie"]);
  rows.push(["↓", "cannot tell, with a reason"]);
  if (config.allow_both_bad) rows.push(["b", "both bad"]);
  if (clips) rows.push(["space", "play or pause both"], ["r", "from the start"]);
  return rows;
}
