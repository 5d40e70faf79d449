// The rater's page: what is shown next, how it is answered, undone, skipped, and when to rest.

import { announce, button, el, typing, reach } from "./dom.js";
import { Outbox, call, newKey } from "./outbox.js";
import { Sent } from "./sent.js";
import { ask } from "./reason.js";
import { keep } from "./words.js";
import { Work, breakDialog, keysDialog, letters } from "./pauses.js";

const config = JSON.parse(document.getElementById("config").textContent);
const kind = await import(`./kinds/${config.kind}.js`); // how this kind of task is shown and answered
const $ = (id) => document.getElementById(id);
const [stage, deck, question, status, banner] = ["stage", "deck", "question", "status", "banner"].map($);
const GUARD_MS = 350; // after a change of items, so that a double click does not answer the next one
const QUIET_MS = 4000;
const TOLD = ["screening", "calibration"]; // stages in which every answer has its feedback before the next question
const TAGS = { screening: "Quiz", adjudicate: "Adjudication", golden: "Golden set" };

let queue = [], current = null, mounted = null, locked = true, shownAt = 0, revealed = false, revealAll = false;
let passed = ""; // said in place of "Saved", for a moment
let undoing = false, undoKey = null; // the key stays until the server has said what became of it
const work = new Work();
const sent = new Sent(`${config.project}:${config.person}`);
const outbox = new Outbox(`${config.project}:${config.person}`, deliver, saidStatus);
const query = `?html=true&queue=${config.queue}`;

// ---- from and to the server

const holding = () => [current, ...queue].filter(Boolean).map((item) => item.item);

/** What this page holds is told as it is when the answer leaves, not when it was given. */
async function deliver(entry) {
  const hold = holding().filter((item) => item !== entry.body.item).slice(0, 20);
  try {
    return await call(entry.path, { ...entry.body, hold });
  } catch (problem) {
    if (problem.final && entry.body.value) sent.keep(entry.body.item, entry.body.value, true);
    throw problem;
  }
}

function absorb(said) {
  for (const item of said.items || []) {
    if (holding().includes(item.item) || outbox.pending(item.item)) continue; // a late reply
    queue.push({ ...item, until: Date.now() + config.lease_seconds * 1000 });
  }
  if (said.progress) progress(said.progress);
  if (!current && !mounted?.holds) advance(said.state);
  if (said.notice) notice(said.notice, "warn"); // after the next item, which clears the last one
  if (said.items?.length && current && !queue.length && !outbox.size) topUp();
}

/** One more in hand, so that the next answer need not wait for its reply. */
function topUp() {
  call(`${config.api}/next${query}&hold=${current.item}`).then(absorb, () => {}); // the next reply brings one, too
}

async function refill() {
  try {
    const said = await call(`${config.api}/next${query}&count=2`);
    if (!said.items.length && !outbox.size) return leave(said.state);
    absorb(said);
  } catch (problem) {
    if (problem.state === "signed-out") return signedOut();
    if (problem.final) return notice(problem.message, "bad");
    waiting(problem.message);
    setTimeout(() => current || refill(), 3000);
  }
}

/** Where there is nothing to show, the server's own page says why. */
function leave(state) {
  if (state !== "work") location.assign(config.after);
}

/** Whether it was taken: not in the moment after a change, nor under a content warning. */
function submit(value) {
  if (locked || undoing || !current || !revealed) return false;
  locked = true;
  undoKey = null;
  passed = "";
  document.querySelectorAll(".work > .passing").forEach((said) => said.remove());
  const item = current;
  sent.keep(item.item, value);
  const body = { item: item.item, value, seconds: work.seconds(shownAt) };
  const reply = outbox.add(`${config.api}/answers${query}`, body);
  const told = TOLD.includes(item.stage);
  current = null;
  if (told) checking(), (mounted = { holds: true });
  else advance();
  reply.then((said) => {
    mounted = told ? null : mounted;
    if (said.feedback) return feedback(said);
    absorb(said);
    if (!told) announce("Saved.");
  }, async (problem) => {
    mounted = told ? null : mounted;
    if (!current) await (queue.length ? advance() : refill());
    notice(`This answer was not taken: ${problem.message}`, "bad");
  });
  return true;
}

/** The question stays in view while its answer is looked at. */
function checking() {
  stage.inert = true;
  deck.replaceChildren(el("p", { class: "soft", role: "status" }, "Checking …"));
}

/** What the project wanted to see, above the question, before the next one comes. */
function feedback(said) {
  const { right, html, expected, count } = said.feedback;
  const go = () => { mounted = null; absorb(said); };
  stage.inert = false;
  stage.prepend(el("div", { class: `notice ${right ? "good" : "bad"}`, role: "status" },
    el("h2", {}, right ? "That is how we see it, too" : "We see it differently"),
    el("p", {}, "Our answer: ", el("b", {}, expected), "."), el("div", { html }), count ? el("p", { class: "soft small" }, `Question ${count}`) : null));
  const next = button("", go, { class: "choice first" });
  next.append(el("span", { class: "label" }, "Next"), el("kbd", { "aria-hidden": "true" }, "⏎"));
  deck.replaceChildren(el("div", { class: "others" }, next));
  mounted = { holds: true, keys: { Enter: go }, help: [["⏎", "next question"]] };
  locked = false;
  window.scrollTo(0, 0);
  next.focus({ preventScroll: true });
}

// ---- showing

function advance(state) {
  while (queue.length && queue[0].until < Date.now() && navigator.onLine) queue.shift();
  const item = queue.shift();
  if (item) return show(item);
  current = null;
  if (outbox.size) waiting("Sending your answers …");
  else if (state && state !== "work") leave(state);
  else waiting("Loading …"), refill();
}

function show(item) {
  current = item;
  revealed = !warnings(item).length;
  locked = true;
  stage.replaceChildren();
  deck.replaceChildren();
  banner.hidden = true;
  mounted = kind.mount(stage, deck, { ...item, before: sent.before(item.item) }, config, submit);
  reach(stage);
  $("mode").textContent = TAGS[item.stage] || "";
  $("mode").hidden = !TAGS[item.stage];
  $("skip").hidden = !skippable();
  $("undo").hidden = TOLD.includes(item.stage); // what has had its feedback stands
  question.textContent = mounted.question;
  document.title = `${mounted.question} · ${config.title}`;
  cover();
  window.scrollTo(0, 0);
  question.focus({ preventScroll: true });
  deck.classList.add("resting");
  setTimeout(() => { locked = false; deck.classList.remove("resting"); }, GUARD_MS);
  shownAt = work.now();
  if (config.break_after_minutes && work.minutes() >= config.break_after_minutes) breakDialog(work);
}

/** The questions of the quiz are the same for everybody. */
const skippable = () => current?.stage !== "screening";

/** What stands before an item: its own warning, and the project's until somebody waved it through. */
const warnings = (item) => [item.warning, revealAll ? "" : config.content_warning].filter(Boolean);

/** Until somebody asks to see it, an item with a warning is blurred. */
function cover() {
  $("cover")?.remove();
  stage.classList.toggle("blurred", !revealed);
  stage.inert = deck.inert = !revealed;
  if (revealed) return;
  const all = el("input", { type: "checkbox", id: "all" });
  const open = () => {
    revealed = true;
    revealAll ||= all.checked;
    shownAt = work.now();
    cover();
    question.focus({ preventScroll: true });
  };
  stage.before(el("div", { id: "cover", class: "cover card", role: "group", "aria-label": "Content warning" },
    el("h2", {}, "Content warning"), warnings(current).map((text) => el("p", {}, text)),
    current.warning ? null : el("label", { class: "check" }, all, el("span", {}, "Do not ask again until I leave this page")),
    el("div", { class: "row" }, button("Show it", open, { class: "button first" }), skippable() ? button("Skip it", () => skip("content warning"), { class: "button quiet" }) : null)));
}

function waiting(text) {
  stage.inert = false;
  stage.replaceChildren(el("div", { class: "empty", role: "status" }, el("p", {}, text)));
  deck.replaceChildren();
  question.textContent = "One moment";
}

function progress({ answered, share }) {
  $("answered").textContent = answered;
  const bar = $("bar");
  if (share !== null && share !== undefined) bar.value = share;
  bar.hidden = share === null || share === undefined;
}

function notice(text, kind) {
  banner.className = `notice ${kind}`;
  banner.textContent = text;
  banner.hidden = false;
}

function saidStatus(size, state, problem) {
  status.dataset.state = state;
  if (state === "waiting") status.textContent = size ? `${size} ${size === 1 ? "answer waits" : "answers wait"} for a connection` : "No connection";
  else if (state === "sending") status.textContent = "Saving …";
  else if (state === "saved") status.textContent = passed || "Saved";
  else if (state === "signed-out") signedOut();
  else if (state === "refused") notice(`An earlier answer was not taken: ${problem.message}`, "bad");
}

function signedOut() {
  status.textContent = outbox.size ? `Signed out; ${outbox.size} waiting` : "Signed out";
  status.dataset.state = "waiting";
  banner.className = "notice warn";
  banner.replaceChildren("You are signed out. What you answered is kept in this browser. ", el("a", { href: `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}` }, "Sign in again"));
  banner.hidden = false;
}

// ---- what is not an answer

async function skip(given) {
  if (!current) return;
  if (!skippable()) return passing("Questions of the quiz cannot be skipped");
  const reason = typeof given === "string" ? given : await ask({ title: "Skip this item", hint: "Skipping costs you nothing.", reasons: ["I lack the knowledge", "I do not want to read this", "Something is broken"], action: "Skip", place: place("skip", current) });
  if (reason === null || !current) return;
  const item = current;
  current = null;
  advance();
  send(`/skips${query}`, { item: item.item, reason }).then(absorb, unheard("skipped", item, reason));
}

async function flag() {
  if (!current) return;
  const item = current;
  const reason = await ask({ title: "Flag this item", hint: "The lead sees it. You can still answer.", reasons: ["Personal data", "Harmful or illegal", "Broken or empty"], needed: true, action: "Flag", place: place("flag", item) });
  if (reason) send("/flags", { item: item.item, reason }).then(() => passing("Flagged"), unheard("flagged", item, reason));
}

async function note() {
  if (!current) return;
  const item = current;
  const text = await ask({ title: "Note on this item", needed: true, multiline: true, action: "Keep", place: place("note", item) });
  if (text) send("/notes", { item: item.item, text }).then(() => passing("Noted"), unheard("noted", item, text));
}

/** Where the words of a dialog are kept until they are sent. */
const place = (what, item) => `${config.project}:${config.person}:${item.item}:${what}`;

/** What was refused stands in its dialog again. */
const unheard = (what, item, words) => (problem) => {
  keep(`dialog:${place({ skipped: "skip", flagged: "flag", noted: "note" }[what], item)}`, words);
  notice(`This was not ${what}: ${problem.message}`, "bad");
};
const send = (path, body) => outbox.add(`${config.api}${path}`, body);

function passing(text) {
  passed = status.textContent = text;
  setTimeout(() => {
    if (passed === text) passed = "";
    if (status.textContent === text) status.textContent = "Saved";
  }, QUIET_MS);
}

async function undo() {
  if (undoing || $("undo").hidden || (locked && current)) return;
  if (outbox.size) return passing("Your last answer is still on its way");
  undoing = true;
  undoKey ||= newKey();
  try {
    const said = await call(`${config.api}/undo?html=true`, { client_key: undoKey });
    undoKey = null;
    if (current) queue.unshift(current);
    if (said.progress) progress(said.progress);
    const [item] = said.items;
    sent.giveBack(item.item);
    show({ ...item, until: Date.now() + config.lease_seconds * 1000 });
    passing("Your last answer was taken back");
  } catch (problem) {
    if (problem.final) undoKey = null;
    passing(problem.message);
  } finally {
    undoing = false;
  }
}

// ---- keys and buttons

const TOOLS = { u: undo, s: skip, f: flag, n: note, "?": () => keysDialog(mounted?.help || [], skippable()) };
for (const [id, key] of [["undo", "u"], ["skip", "s"], ["flag", "f"], ["note", "n"], ["keys", "?"]]) $(id).addEventListener("click", (event) => event.detail > 1 || TOOLS[key]());

let pointed = null; // the control that a mouse or finger was on last: ⏎ then sends, and does not repeat it
addEventListener("click", (event) => (pointed = event.detail ? event.target.closest("button") : null), true);
addEventListener("focusin", (event) => { if (event.target !== pointed) pointed = null; });

addEventListener("keydown", (event) => {
  if (event.repeat && !event.key.startsWith("Arrow")) return;
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector("dialog[open]")) return;
  if (event.key.length === 1 && event.key !== " " && !letters.read()) return;
  const onControl = event.target !== pointed && event.target.closest?.("button, a, summary, input:not([type=radio]), video") && ["Enter", " "].includes(event.key);
  if (onControl && !event.target.classList.contains("point")) return;
  const inRadios = event.target.matches?.("input[type=radio]") && event.key.startsWith("Arrow");
  if (inRadios) return;
  const act = (!locked && !stage.inert && mounted?.keys?.[event.key]) || TOOLS[event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

if (!matchMedia("(min-width: 1020px)").matches) $("rubric-details").open = false; // one line of it stays
$("rubric-button").addEventListener("click", () => {
  const shown = document.body.classList.toggle("rubric-shut");
  $("rubric-button").setAttribute("aria-expanded", String(!shown));
});

absorb(JSON.parse($("first").textContent));
outbox.soon(0);
