// A small dialog that asks why: reasons by number, or in one's own words.

import { button, el } from "./dom.js";
import { keep, recall } from "./words.js";

/** A promise of the reason; null where somebody changed their mind. What they typed is kept in this
 *  browser under ``place`` and stands there again when they come back, until it is sent. */
export function ask({ title, hint = "", reasons = [], needed = false, action = "Send", multiline = false, value = "", place }) {
  return new Promise((resolve) => {
    const field = el(multiline ? "textarea" : "input", { id: "reason", maxlength: 2000, autocomplete: "off" });
    const key = `dialog:${place}`;
    const before = recall(key);
    field.value = before || value;
    field.addEventListener("input", () => keep(key, field.value));
    const error = el("p", { class: "error", role: "alert", hidden: true }, "Choose a reason or write one.");
    const close = (value) => {
      if (value !== null) keep(key, "");
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const send = () => {
      if (needed && !field.value.trim()) {
        error.hidden = false;
        field.focus();
      } else close(field.value.trim());
    };
    const quick = reasons.map((text, index) => button("", () => close(text), { class: "choice wide" }));
    quick.forEach((node, index) => node.append(el("span", { class: "label" }, reasons[index]), el("kbd", { "aria-hidden": "true" }, String(index + 1))));
    const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title" },
      el("h2", { id: "ask-title" }, title),
      hint ? el("p", { class: "soft" }, hint) : null,
      quick.length ? el("div", { class: "quick" }, quick) : null,
      el("div", { class: "field" }, el("label", { for: "reason" }, quick.length ? "In your own words" : "Your words"), field, before ? el("p", { class: "hint" }, "What you typed before was kept.") : null, error),
      el("div", { class: "row" }, button("Cancel", () => close(null), { class: "button quiet" }), button(action, send, { class: "button first" })));
    dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(null); });
    dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      const number = Number(event.key);
      if (event.target !== field && number >= 1 && number <= reasons.length) { event.preventDefault(); close(reasons[number - 1]); }
      if (event.key === "Enter" && event.target === field && (!multiline || event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
    });
    document.body.append(dialog);
    dialog.showModal();
    (before ? field : quick[0] || field).focus();
  });
}
