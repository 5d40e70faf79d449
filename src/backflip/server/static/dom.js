// Building nodes, and the few words that every kind of question shares.

/** An element: el("button", {class: "x", onclick: f, disabled: true}, "text", node). */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "html") node.innerHTML = value; // only what the server has cleaned
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A button that answers a click once: the second click of a double click says nothing. */
export function button(label, onclick, attributes = {}) {
  return el("button", { type: "button", ...attributes, onclick: (event) => event.detail > 1 || onclick(event) }, label);
}

/** A button of the deck with its key beside the label. */
export function choice(label, key, onclick, attributes = {}) {
  const shortcut = key ? { "aria-keyshortcuts": ARIA_KEYS[key] || key } : {};
  const node = button("", onclick, { class: "choice", ...shortcut, ...attributes });
  node.append(el("span", { class: "label" }, label));
  if (key) node.append(el("kbd", { "aria-hidden": "true" }, key));
  return node;
}

const ARIA_KEYS = { "⌫": "Backspace", "Ctrl ⏎": "Control+Enter", "←": "ArrowLeft", "→": "ArrowRight", "↑": "ArrowUp", "↓": "ArrowDown", "⏎": "Enter" };

export const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** A card with one answer: its letter, and its text as the server rendered it. */
export function answerCard(letter, html, ...extra) {
  return el(
    "article",
    { class: "answer", "aria-label": `Answer ${letter}` },
    el("header", {}, el("h2", {}, el("span", { class: "sr" }, "Answer "), letter), ...extra),
    el("div", { class: "body", html }),
  );
}

export function promptBox(html) {
  return html ? el("section", { class: "prompt", "aria-label": "Conversation", html }) : null;
}

/** What is wider than its place can be scrolled by keys. */
export function reach(root) {
  for (const node of root.querySelectorAll(".wide, .formula, pre, table")) {
    if (node.scrollWidth > node.clientWidth + 1) node.tabIndex = 0;
  }
}

/** Say something to a screen reader, and to nobody else. */
export function announce(text) {
  const place = document.getElementById("announce");
  place.textContent = "";
  setTimeout(() => (place.textContent = text), 30);
}

/** Whether keys belong to a field that somebody is typing in. */
export function typing(target) {
  return target instanceof HTMLElement && (target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName) ||
    (target.tagName === "INPUT" && !["checkbox", "radio", "button"].includes(target.type)));
}

/** The prompt and the only answer to it. */
export function showAnswer(stage, item) {
  stage.append(...[promptBox(item.prompt), el("div", { class: "answers one" }, answerCard("", item.answers[0]))].filter(Boolean));
}
