// One answer on the project's scales.

import { announce, choice, el, showAnswer } from "../dom.js";

export function mount(stage, deck, item, config, submit) {
  showAnswer(stage, item);
  const ratings = {};
  let at = 0;
  const rows = config.attributes.map((attribute, row) => attributeRow(attribute, row, (value) => set(row, value), () => focus(row)));
  const send = choice("Send", "⏎", finish, { class: "choice first", disabled: true });
  deck.append(el("div", { class: "attributes" }, rows.map((row) => row.node)), el("div", { class: "others" }, send));

  function focus(row) {
    at = Math.max(0, Math.min(rows.length - 1, row));
    rows.forEach((other, number) => other.node.classList.toggle("at", number === at));
  }
  function set(row, value) {
    ratings[config.attributes[row].name] = value;
    rows[row].check(value);
    send.disabled = Object.keys(ratings).length < rows.length;
    focus(row);
  }
  function type(digit) {
    const attribute = config.attributes[at];
    const value = attribute.high > 9 || attribute.low > 9 ? attribute.low + digit - 1 : digit;
    if (value < attribute.low || value > attribute.high) return announce(`${attribute.name} runs from ${attribute.low} to ${attribute.high}.`);
    set(at, value);
    announce(`${attribute.name}: ${value}`);
    focus(at + 1);
  }
  function finish() {
    const missing = config.attributes.findIndex((attribute) => !(attribute.name in ratings));
    if (missing < 0) return submit({ ratings });
    focus(missing);
    announce(`${config.attributes[missing].name} is still open.`);
  }
  config.attributes.forEach(({ name, low, high }, row) => {
    const value = item.before?.ratings[name];
    if (value >= low && value <= high) set(row, value);
  });
  const keys = { ArrowUp: () => focus(at - 1), ArrowDown: () => focus(at + 1), Enter: finish };
  for (let digit = 0; digit <= 9; digit += 1) keys[String(digit)] = () => type(digit);
  focus(0);
  const [lowest, highest] = [Math.min(...config.attributes.map((a) => a.low)), Math.max(...config.attributes.map((a) => a.high))];
  return { question: "Rate this answer", keys, help: [[`${Math.max(lowest, 0)} – ${Math.min(highest, 9)}`, "rate the marked line, and go on to the next"], ["↑ ↓", "another line"], ["⏎", "send"]] };
}

function attributeRow(attribute, row, set, focus) {
  const values = Array.from({ length: attribute.high - attribute.low + 1 }, (_, step) => attribute.low + step);
  const inputs = values.map((value) => el("input", { type: "radio", name: `attribute-${row}`, value, onchange: () => set(value), onfocus: focus }));
  const name = `attribute-name-${row}`;
  const scale = el("div", { class: "values" }, values.map((value, step) => el("label", { class: "value" }, inputs[step], el("span", {}, String(value)))));
  const node = el("div", { class: "attribute", role: "radiogroup", "aria-labelledby": name },
    el("div", {}, el("b", { id: name }, attribute.name), attribute.question ? el("small", {}, attribute.question) : null), scale);
  return { node, check: (value) => (inputs[values.indexOf(value)].checked = true) };
}
