// Words that somebody typed and did not send yet: kept in this browser, whatever becomes of the page.

import { button, el } from "./dom.js";

const PREFIX = "backflip:words:";
const TYPED = "textarea, input:not([type]), input[type=text], input[type=search], input[type=email], input[type=number]";

export function recall(key) {
  try { return localStorage.getItem(PREFIX + key) || ""; } catch { return ""; }
}

/** Empty: they are no longer needed. */
export function keep(key, words) {
  try {
    if (words) localStorage.setItem(PREFIX + key, words);
    else localStorage.removeItem(PREFIX + key);
  } catch { /* kept nowhere */ }
}

// ---- forms of a page

const read = (key) => {
  try { return JSON.parse(recall(key)) || null; } catch { return null; }
};
const write = (key, kept) => keep(key, kept && JSON.stringify(kept));

/** Every form that is sent: what was typed stands in it again after a reload or a lost session. */
export function keepForms() {
  const { person } = document.documentElement.dataset;
  if (!person) return; // at the door nobody is known, and a password is typed
  arrived(`form:${person}:`);
  for (const form of document.querySelectorAll("form[method=post]")) {
    const fields = [...form.querySelectorAll(TYPED)].filter((field) => field.name && !field.readOnly);
    if (fields.length) keepForm(form, fields, `form:${person}:${new URL(form.action, location).pathname}`);
  }
}

/** What was sent has arrived where the page that came back does not complain. */
function arrived(prefix) {
  const { status } = document.documentElement.dataset;
  const good = status === "200" && !document.querySelector(".notice.bad[role=alert]");
  let keys = [];
  try { keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + prefix)); } catch { return; }
  for (const key of keys.map((name) => name.slice(PREFIX.length))) {
    const kept = read(key);
    if (kept?.sent) write(key, good && document.querySelector(".notice.good[role=status]") ? null : { ...kept, sent: false });
  }
}

function keepForm(form, fields, key) {
  const typed = () => fields.filter((field) => field.value !== field.defaultValue);
  const store = (sent) => {
    const now = typed();
    const words = Object.fromEntries(now.map((field) => [field.name, field.value]));
    write(key, now.length ? { words, base: Object.fromEntries(now.map((field) => [field.name, field.defaultValue])), sent } : null);
  };
  const kept = read(key);
  const missing = fields.filter((field) => kept?.words[field.name] !== undefined && kept.words[field.name] !== field.defaultValue);
  const put = () => missing.forEach((field) => {
    field.value = kept.words[field.name];
    field.closest("details")?.setAttribute("open", "");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
  if (missing.length) {
    const same = missing.every((field) => kept.base[field.name] === field.defaultValue);
    if (same) put();
    tell(form, same, put, () => {
      missing.forEach((field) => (field.value = field.defaultValue));
      write(key, null);
    });
  } else if (kept && document.documentElement.dataset.status === "200") write(key, null);
  form.addEventListener("input", () => store(false));
  form.addEventListener("submit", () => typed().length && store(true));
}

function tell(form, same, put, discard) {
  const box = el("div", { class: "notice warn kept", role: "status" },
    el("p", {}, same ? "What you typed here and did not save was kept." : "What you typed here and did not save was kept. What is saved has changed since."),
    el("div", { class: "row" },
      same ? null : button("Put my words back", () => { put(); box.remove(); }, { class: "button little" }),
      button("Discard my words", () => { discard(); box.remove(); }, { class: "button little" })));
  form.prepend(box);
}
