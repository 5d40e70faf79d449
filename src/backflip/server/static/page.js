// Small comforts of the other pages. Everything works without them.

import { reach } from "./dom.js";
import { keepForms } from "./words.js";

reach(document);
addEventListener("resize", () => reach(document));

for (const node of document.querySelectorAll("[data-copy]")) {
  node.addEventListener("click", async () => {
    const field = document.getElementById(node.dataset.copy);
    field.select();
    try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand("copy"); }
    node.textContent = "Copied";
    setTimeout(() => (node.textContent = "Copy"), 1500);
  });
}

// A form is sent once, whatever the mouse does; a dangerous one asks first.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sure && !confirm(form.dataset.sure)) return event.preventDefault();
    if (form.dataset.sent) return event.preventDefault();
    form.dataset.sent = "yes";
    busy(form);
    if (!form.dataset.busy) setTimeout(() => delete form.dataset.sent, 4000);
  });
}
addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

/** Where an answer may take a while the button says that it has been heard. */
function busy(form) {
  const button = form.querySelector("button.first");
  if (!form.dataset.busy || !button) return;
  const text = button.textContent;
  button.textContent = form.dataset.busy;
  button.setAttribute("aria-busy", "true");
  addEventListener("pageshow", () => { button.textContent = text; button.removeAttribute("aria-busy"); }, { once: true });
}

// Times in the zone of whoever looks, with its name; without this script they stand in UTC.
const clock = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
for (const node of document.querySelectorAll("time[datetime]")) {
  node.title = node.textContent;
  node.textContent = clock.format(new Date(node.dateTime));
}

keepForms();

// A box that ticks all others of its form.
for (const all of document.querySelectorAll("[data-all]")) {
  const boxes = () => [...all.form.querySelectorAll("input[type=checkbox]")].filter((box) => box !== all);
  all.addEventListener("change", () => boxes().forEach((box) => (box.checked = all.checked)));
  all.form.addEventListener("change", (event) => event.target !== all && (all.checked = boxes().every((box) => box.checked)));
}

// Only the settings that the chosen kind has.
const kinds = document.querySelectorAll("input[name=kind]");
function fit() {
  const kind = document.querySelector("input[name=kind]:checked, input[type=hidden][name=kind]")?.value;
  for (const node of document.querySelectorAll("[data-kinds]")) {
    node.hidden = !node.dataset.kinds.split(" ").includes(kind);
    node.querySelectorAll("input, select, textarea").forEach((field) => (field.disabled = node.hidden));
  }
}
if (document.querySelector("[data-kinds]")) {
  kinds.forEach((node) => node.addEventListener("change", fit));
  fit();
}

// Details of a switch, only while it is on.
for (const node of document.querySelectorAll("[data-when]")) {
  const box = document.querySelector(`input[name=${node.dataset.when}]`);
  const show = () => (node.hidden = !box.checked);
  box.addEventListener("change", show);
  show();
}

// A range shows its number.
for (const range of document.querySelectorAll("input[type=range][data-shows]")) {
  const shown = document.getElementById(range.dataset.shows);
  const say = () => (shown.textContent = `${range.value}${range.dataset.unit || ""}`);
  range.addEventListener("input", say);
  say();
}

// Pages about something that is under way load again until it is done.
const again = document.querySelector("[data-again]");
if (again) setTimeout(() => document.hidden || location.reload(), Number(again.dataset.again) * 1000);

document.querySelector(".tab[aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
