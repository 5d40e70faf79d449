// A reply to write, or a draft to make better.

import { announce, button, choice, el, promptBox } from "../dom.js";

export function mount(stage, deck, item, config, submit) {
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
}

function recall(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* a browser that keeps nothing */ }
}
