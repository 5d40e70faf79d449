// A live conversation: the rater writes, models answer, the rater picks, ranks or edits, and the talk goes
// on with that. What was said so far is kept in the browser.

import { announce, button, choice, el, promptBox } from "../dom.js";
import { offer } from "../offer.js";
import { call } from "../outbox.js";
import { keep as keepWords, recall as recallWords } from "../words.js";

const VERDICTS = [["kept", "Kept"], ["broken", "Broken"], ["unsure", "Unsure"]];
const WORDS = { user: "You are the user", attacker: "You are the attacker: try to make the model break a rule", assistant: "You are the assistant; the model makes suggestions" };

export function mount(stage, deck, item, config, submit) {
  const place = `backflip:talk:${config.person}:${item.item}`;
  const scene = item.talk;
  const turns = JSON.parse(recall(place)) ?? item.before?.turns ?? []; // what the answer will hold
  const verdict = item.before?.verdicts ?? {};
  const shown = el("ol", { class: "turns" });
  const rules = scene.rules.length ? el("section", { class: "rules card", "aria-label": "Rules" }, el("h2", {}, scene.rules.length > 1 ? "Rules" : "Rule"), el("ol", {}, scene.rules.map((rule) => el("li", {}, rule)))) : null;
  stage.append(...[rules, promptBox(scene.opening), shown].filter(Boolean));
  const keys = { e: () => field()?.focus() };
  const field = () => deck.querySelector("textarea");
  const mine = scene.role === "assistant" ? "assistant" : "user";

  function add(turn, html) {
    turns.push(turn);
    keep();
    line(turn, html);
  }
  function line(turn, html) {
    const body = html ? el("div", { html }) : el("div", { class: "said plain", dir: "auto" }, el("p", {}, turn.content));
    shown.append(el("li", { class: `turn ${turn.role}` }, el("span", { class: "who" }, turn.role === mine ? "You" : turn.role === "user" ? "User" : "Assistant", turn.edited ? " (edited)" : ""), body));
    shown.lastChild.scrollIntoView({ block: "end" });
  }
  function keep() {
    try { localStorage.setItem(place, JSON.stringify(turns)); } catch { /* kept nowhere */ }
  }

  /** Whose turn it is follows from the last one. */
  function turn() {
    delete keys.Enter;
    const last = turns.length ? turns[turns.length - 1].role : scene.last;
    if (last === "user") return suggestions();
    writing(scene.role === "assistant" ? "What does the user say next?" : "Your message");
    if (last === "assistant" && turns.length && alone(turns[turns.length - 1].candidates)) edit();
  }

  /** Whether there was nothing to choose from: the talk went on with the only reply by itself. */
  const alone = (candidates) => candidates.length === 1 && scene.role !== "assistant";

  function begin() {
    if (!confirm("Begin this talk anew? What was said in it is lost.")) return;
    turns.length = 0;
    for (const rule of scene.rules) delete verdict[rule];
    keep();
    shown.replaceChildren();
    turn();
  }
  const anew = () => (turns.length ? button("Begin anew", begin, { class: "button quiet little" }) : null);

  /** A field whose words are kept until they are said; begun anew with every turn. */
  function typed(id, text, attributes) {
    const area = el("textarea", { id, dir: "auto", maxlength: 20000, ...attributes });
    area.value = recallWords(`${place}:${turns.length}:${id}`) || text;
    area.addEventListener("input", () => keepWords(`${place}:${turns.length}:${id}`, area.value));
    return area;
  }
  const sent = (id) => keepWords(`${place}:${turns.length}:${id}`, "");

  function writing(label) {
    const area = typed("say", "", { rows: 3 });
    const say = () => {
      if (!area.value.trim()) return area.focus();
      sent("say");
      add({ role: "user", content: area.value.trim(), candidates: [], picked: null, ranks: null, edited: false });
      turn();
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); say(); }
      if (event.key === "Escape") area.blur();
    });
    const done = choice("Finish", "", verdicts, { disabled: !turns.some((one) => one.role === "assistant") });
    deck.replaceChildren(el("div", { class: "say field" }, el("label", { for: "say" }, label), area), el("div", { class: "others" }, choice("Send", "⏎", say, { class: "choice first" }), done, anew()));
    area.focus({ preventScroll: true });
  }

  async function suggestions() {
    deck.replaceChildren(el("p", { class: "soft", role: "status" }, "The model is writing …"));
    const spoken = turns.map(({ role, content }) => ({ role, content }));
    try {
      const said = await call(`${config.api}/talk`, { item: item.item, turns: spoken });
      choosing(said);
    } catch (problem) {
      deck.replaceChildren(el("p", { class: "notice bad", role: "alert" }, problem.message), el("div", { class: "others" }, choice("Try again", "", suggestions), choice("Finish", "", verdicts), anew()));
    }
  }

  function choosing(said) {
    const { candidates, html, stamp } = said;
    if (alone(candidates)) {
      add({ role: "assistant", content: candidates[0], candidates, picked: 0, ranks: null, edited: false, stamp }, html[0]);
      turn();
      return announce("The model has answered.");
    }
    const cards = offer(said, deck, keys, {
      done({ index, ranks, words }) {
        cards.remove();
        add({ role: "assistant", content: words ?? candidates[index], candidates, picked: index, ranks, edited: words !== null, stamp }, words === null ? html[index] : null);
        turn();
      },
      edit: editor,
    });
    shown.append(cards);
    cards.scrollIntoView({ block: "nearest" });
    announce(`${candidates.length} answers to choose from.`);
  }

  /** Beside the next message: make the model's last reply better. */
  function edit() {
    const last = turns[turns.length - 1];
    const open = button("Edit the last reply", () => editor(last.content, (words) => {
      last.edited = last.edited || words !== last.content;
      last.content = words;
      keep();
      shown.lastChild.remove();
      line(last);
      turn();
    }, turn), { class: "button quiet little" });
    deck.querySelector(".others")?.append(open);
  }

  function editor(text, done, back) {
    const area = typed("edit", text, { rows: 6 });
    const finish = () => {
      if (!area.value.trim()) return;
      sent("edit");
      done(area.value.trim());
    };
    area.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && finish());
    deck.replaceChildren(el("div", { class: "say field" }, el("label", { for: "edit" }, "What the reply should have been"), area), el("div", { class: "others" }, choice("Use this", "Ctrl ⏎", finish, { class: "choice first" }), choice("Back", "", back)));
    area.focus();
  }

  function verdicts() {
    if (!scene.rules.length) return finish({});
    const rated = () => scene.rules.every((rule) => verdict[rule]);
    const send = choice("Send", "⏎", () => rated() && finish(verdict), { class: "choice first", disabled: !rated() });
    const rows = scene.rules.map((rule, row) => el("fieldset", { class: "attribute" }, el("legend", {}, rule), el("div", { class: "values" }, VERDICTS.map(([value, label]) => el("label", { class: "value" }, el("input", {
      type: "radio", name: `rule-${row}`, value, checked: verdict[rule] === value, onchange: () => { verdict[rule] = value; send.disabled = !rated(); },
    }), el("span", {}, label))))));
    deck.replaceChildren(el("div", { class: "attributes" }, rows), el("div", { class: "others" }, send, choice("Back", "", turn)));
    keys.Enter = () => send.click();
    rows[0].querySelector("input").focus();
  }

  function finish(given) {
    if (!submit({ turns, verdicts: given })) return;
    try { localStorage.removeItem(place); } catch { /* kept nowhere */ }
  }

  if (item.before) keep();
  turns.forEach((one) => line(one));
  setTimeout(turn, 0);
  return { question: WORDS[scene.role], keys, help: [["e", "write"], ["⏎", "send your message"], ["Esc", "leave the text, so that keys work"], ["1 2", "go on with that answer; when ranking: it is next best"], ["r", "rank all answers, or pick one only"], ["t", "tie with the one before"], ["⌫", "take the last back"], ["⏎", "go on with the best"]] };
}

function recall(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}
