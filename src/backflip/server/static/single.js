// Kinds about one text: ratings, a thumb, a reply to write, steps to label, a principle to vote on.

import { announce, answerCard, button, choice, el, promptBox } from "./dom.js";

export const thumbs = {
  mount(stage, deck, item, config, submit) {
    show(stage, item);
    deck.append(el("div", { class: "big" },
      choice("Bad", "←", () => submit({ up: false })), choice("Good", "→", () => submit({ up: true }))));
    const keys = { ArrowLeft: () => submit({ up: false }), ArrowRight: () => submit({ up: true }) };
    keys.ArrowDown = keys["1"] = keys.ArrowLeft;
    keys.ArrowUp = keys["2"] = keys.ArrowRight;
    return { question: "Is this a good answer?", keys, help: [["→ or 2", "good"], ["← or 1", "bad"]] };
  },
};

export const principles = {
  mount(stage, deck, item, config, submit) {
    stage.append(el("blockquote", { class: "principle card", html: item.principle }));
    const vote = (word) => () => submit({ vote: word });
    deck.append(el("div", { class: "big" }, choice("Disagree", "←", vote("disagree")), choice("Pass", "↓", vote("pass")), choice("Agree", "→", vote("agree"))));
    const keys = { ArrowLeft: vote("disagree"), ArrowRight: vote("agree"), ArrowDown: vote("pass"), 1: vote("disagree"), 2: vote("pass"), 3: vote("agree") };
    return { question: "Should a model follow this principle?", keys, help: [["→ or 3", "agree"], ["← or 1", "disagree"], ["↓ or 2", "pass"]] };
  },
};

export const rate = {
  mount(stage, deck, item, config, submit) {
    show(stage, item);
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
  },
};

function attributeRow(attribute, row, set, focus) {
  const values = Array.from({ length: attribute.high - attribute.low + 1 }, (_, step) => attribute.low + step);
  const inputs = values.map((value) => el("input", { type: "radio", name: `attribute-${row}`, value, onchange: () => set(value), onfocus: focus }));
  const name = `attribute-name-${row}`;
  const scale = el("div", { class: "values" }, values.map((value, step) => el("label", { class: "value" }, inputs[step], el("span", {}, String(value)))));
  const node = el("div", { class: "attribute", role: "radiogroup", "aria-labelledby": name },
    el("div", {}, el("b", { id: name }, attribute.name), attribute.question ? el("small", {}, attribute.question) : null), scale);
  return { node, check: (value) => (inputs[values.indexOf(value)].checked = true) };
}

export const write = {
  mount(stage, deck, item, config, submit) {
    const kept = `backflip:draft:${config.person}:${item.item}`;
    const draft = item.draft ?? "";
    let fromDraft = item.before?.from_draft ?? Boolean(draft);
    stage.append(...[promptBox(item.prompt)].filter(Boolean));
    const field = el("textarea", { id: "reply", class: "reply", rows: 10, dir: "auto", spellcheck: true });
    field.value = recall(kept) ?? item.before?.text ?? draft;
    const words = el("span", { class: "soft small" });
    const count = () => {
      words.textContent = `${field.value.trim() ? field.value.trim().split(/\s+/).length : 0} words`;
      remember(kept, field.value);
      send.disabled = !field.value.trim() || (Boolean(draft) && fromDraft && field.value === draft);
    };
    const scratch = draft ? button("Start from nothing", () => { fromDraft = false; field.value = ""; field.focus(); count(); }, { class: "button quiet little" }) : null;
    const back = draft ? button("Back to the draft", () => { fromDraft = true; field.value = draft; count(); }, { class: "button quiet little" }) : null;
    const send = choice("Send", "Ctrl ⏎", finish, { class: "choice first", "aria-keyshortcuts": "Control+Enter" });
    stage.append(el("div", { class: "field" }, el("label", { for: "reply" }, draft ? "Make this reply better" : "Your reply"), field, el("div", { class: "row" }, words, scratch, back)));
    deck.append(el("div", { class: "others" }, send));
    field.addEventListener("input", count);
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); finish(); }
      if (event.key === "Escape") field.blur();
    });
    count();
    function finish() {
      if (send.disabled) return announce("Change the text first.");
      if (submit({ text: field.value, from_draft: fromDraft })) remember(kept, null);
    }
    const task = draft ? "Make this reply better" : "Write the best reply you can";
    return { question: task, keys: { e: () => field.focus() }, focus: field, help: [["e", "write"], ["Esc", "leave the text, so that keys work"], ["Ctrl ⏎", "send"]] };
  },
};

function recall(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* a browser that keeps nothing */ }
}

const STEP_CHOICES = [[1, "good", "Good", "1"], [0, "neutral", "Neutral", "2"], [-1, "bad", "Bad", "3"]];

export const steps = {
  mount(stage, deck, item, config, submit) {
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
  },
};

function show(stage, item) {
  stage.append(...[promptBox(item.prompt), el("div", { class: "answers one" }, answerCard("", item.answers[0]))].filter(Boolean));
}
