// Time at work, the reminder of a break, and the list of keys.

import { button, el } from "./dom.js";

const IDLE_MS = 60000; // longer without a key or the mouse is not work

/** Counts the time that this page was looked at; the computer's clock may jump, this one does not. */
export class Work {
  constructor() {
    this.total = 0;
    this.since = 0;
    this.last = performance.now();
    this.touched = this.last;
    const tick = () => this.tick();
    setInterval(tick, 1000);
    document.addEventListener("visibilitychange", tick);
    for (const kind of ["pointermove", "keydown", "scroll", "touchstart"]) addEventListener(kind, () => (this.touched = performance.now()), { passive: true });
  }

  tick() {
    const now = performance.now();
    if (!document.hidden && now - this.touched < IDLE_MS) this.total += now - this.last;
    this.last = now;
    return this.total;
  }

  now() {
    return this.tick();
  }

  seconds(from) {
    return Math.max(0, Math.round((this.tick() - from) / 10) / 100);
  }

  minutes() {
    return (this.tick() - this.since) / 60000;
  }

  rest() {
    this.since = this.tick();
  }
}

export function breakDialog(work) {
  if (document.querySelector("dialog[open]")) return;
  const minutes = Math.round(work.minutes());
  work.rest();
  const dialog = el("dialog", { "aria-labelledby": "break-title" },
    el("h2", { id: "break-title" }, "Time for a break?"),
    el("p", {}, `You have been at it for ${minutes} ${minutes === 1 ? "minute" : "minutes"}. Judgement tires before you notice: five minutes away from the screen help.`),
    el("p", { class: "soft" }, "Everything is saved. This item waits for you."),
    el("div", { class: "row" }, button("Go on", () => { dialog.close(); dialog.remove(); }, { class: "button first" })));
  document.body.append(dialog);
  dialog.showModal();
}

/** Whether letters, numbers and signs act by themselves (WCAG 2.1.4): who speaks to the computer types
 *  many of them unawares. */
export const letters = {
  place: "backflip:letters",
  act: true,
  read() {
    try { this.act = localStorage.getItem(this.place) !== "off"; } catch { /* as it was said on this page */ }
    return this.act;
  },
  write(act) {
    this.act = act;
    try { localStorage.setItem(this.place, act ? "on" : "off"); } catch { /* until the page is left */ }
  },
};

const ALWAYS = [["u", "undo your last answer"], ["s", "skip, without a penalty"], ["f", "flag for the lead"], ["n", "note"], ["?", "this list"]];

export function keysDialog(help, skippable) {
  const always = ALWAYS.filter(([key]) => skippable || key !== "s");
  const row = ([key, text]) => [el("dt", {}, ...key.split(" ").map((part) => (["–", "or", "then", "mouse"].includes(part) ? ` ${part} ` : el("kbd", {}, part)))), el("dd", {}, text)];
  const single = el("input", { type: "checkbox", checked: letters.read(), onchange: () => letters.write(single.checked) });
  const dialog = el("dialog", { class: "keys-list", "aria-labelledby": "keys-title" },
    el("h2", { id: "keys-title" }, "Keys"), el("dl", {}, [...help, ...always].flatMap(row)),
    el("p", { class: "soft small" }, "For a third of a second after a new item no key answers it, so that a double press does not."),
    el("label", { class: "check" }, single, el("span", {}, "Letters, numbers and signs act by themselves; arrows, ⏎ and ⌫ always do")),
    el("div", { class: "row" }, button("Close", () => dialog.close(), { class: "button", autofocus: true })));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
