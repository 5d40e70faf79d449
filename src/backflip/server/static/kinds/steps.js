// Reasoning to label step by step.

import { announce, button, choice, el, promptBox } from "../dom.js";

const STEP_CHOICES = [[1, "good", "Good", "1"], [0, "neutral", "Neutral", "2"], [-1, "bad", "Bad", "3"]];

export function mount(stage, deck, item, config, submit) {
  const labels = item.before?.labels ?? item.steps.map(() => null);
  let at = 0;
  const rows = item.steps.map((html, index) => {
    const buttons = STEP_CHOICES.map(([value, name, label]) => button(label, () => set(index, value), { class: `mark ${name}`, "aria-pressed": "false" }));
    const node = el("li", { class: "step", tabindex: -1 }, el("div", { class: "body", html }), el("div", { class: "marks", role: "group", "aria-label": `Step ${index + 1}` }, buttons));
    node.addEventListener("focusin", () => focus(index, false));
    return { node, buttons };
  });
  stage.append(...[promptBox(item.prompt), el("ol", { class: "steps" }, rows.map((row) => row.node))].filter(Boolean));
  const send = choice("Send", "⏎", finish, { class: "choice first", disabled: true });
  const left = el("span", { class: "soft small" });
  deck.append(el("div", { class: "others" }, ...STEP_CHOICES.map(([value, , label, key]) => choice(label, key, () => type(value))), send, left));

  const firstBad = () => labels.indexOf(-1);
  const last = () => (config.stop_at_bad && firstBad() >= 0 ? firstBad() : labels.length - 1);
  const open = () => labels.slice(0, last() + 1).filter((label) => label === null).length;
  function focus(index, move = true) {
    at = Math.max(0, Math.min(last(), index));
    rows.forEach((row, number) => row.node.classList.toggle("at", number === at));
    if (move) rows[at].node.scrollIntoView({ block: "nearest" });
  }
  function set(index, value) {
    labels[index] = labels[index] === value ? null : value;
    draw();
    focus(index);
  }
  function type(value) {
    labels[at] = value;
    draw();
    announce(`Step ${at + 1}: ${STEP_CHOICES.find(([other]) => other === value)[1]}`);
    focus(at + 1);
  }
  function draw() {
    rows.forEach((row, index) => {
      STEP_CHOICES.forEach(([value], number) => row.buttons[number].setAttribute("aria-pressed", String(labels[index] === value)));
      row.node.classList.toggle("beyond", index > last());
      row.buttons.forEach((node) => (node.disabled = index > last()));
    });
    send.disabled = open() > 0;
    left.textContent = open() ? `${open()} to label` : firstBad() >= 0 && config.stop_at_bad ? "Ends at the first bad step" : "All labelled";
  }
  function finish() {
    if (send.disabled) return announce(`${open()} steps are not labelled.`);
    submit({ labels: labels.map((label, index) => (index > last() ? null : label)) });
  }
  const keys = { 1: () => type(1), 2: () => type(0), 3: () => type(-1), ArrowUp: () => focus(at - 1), ArrowDown: () => focus(at + 1), Enter: finish };
  draw();
  focus(0, false);
  return { question: "Is each step right?", keys, help: [["1 2 3", "good, neutral, bad, and on to the next step"], ["↑ ↓", "another step"], ["⏎", "send"]] };
}
