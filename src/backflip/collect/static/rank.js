// Put K answers in order: by keys, by clicks or by dragging; ties and unranked answers allowed.

import { announce, answerCard, button, choice, el, promptBox, LETTERS } from "./dom.js";

export function mount(stage, deck, item, config, submit) {
  const count = item.answers.length;
  const names = [...LETTERS].slice(0, count);
  let places = []; // [[0], [2, 1]]: answer 0 is best, 2 and 1 share the second place
  let picked = null;

  const badges = names.map(() => el("span", { class: "badge", "aria-hidden": "true" }));
  const cards = item.answers.map((html, index) => answerCard(names[index], html, badges[index]));
  cards.forEach((card, index) => {
    card.draggable = false;
    card.dataset.index = index;
  });
  stage.append(...[promptBox(item.prompt), el("div", { class: `answers ${count > 2 ? "many" : "two"}` }, cards)].filter(Boolean));

  const order = el("ol", { class: "order", "aria-label": "Your order, best first" });
  const pool = el("div", { class: "pool", role: "group", "aria-label": "Not ranked yet" });
  const send = choice("Send", "⏎", finish, { class: "choice first", disabled: true });
  deck.append(
    el("div", { class: "ranking" }, order, pool),
    el("div", { class: "others" }, send, choice("Tie with the last", "t", tieLast), choice("Take the last back", "⌫", takeLast)),
  );

  const clean = () => (places = places.filter((place) => place.length));
  const without = (index) => places.forEach((place, number) => (places[number] = place.filter((other) => other !== index)));
  const ranked = (index) => places.some((place) => place.includes(index));

  function append(index) {
    without(index);
    clean();
    places.push([index]);
    draw(`Answer ${names[index]} is number ${places.length}.`);
  }

  function toggle(index) {
    if (!ranked(index)) return append(index);
    without(index);
    draw(`Answer ${names[index]} is not ranked.`);
  }

  function tieLast() {
    if (places.length < 2) return;
    const last = places.pop();
    places[places.length - 1].push(...last);
    draw(`Tie: ${places[places.length - 1].map((index) => names[index]).join(" and ")}.`);
  }

  function takeLast() {
    const last = places[places.length - 1];
    if (!last) return;
    const index = last.pop();
    draw(`Answer ${names[index]} taken back.`);
  }

  /** Put an answer at a place, or between two: kind is "on" (tie), "before" or "pool". */
  function drop(index, kind, target) {
    const anchor = target === undefined ? undefined : places[target];
    without(index);
    if (kind === "on" && anchor) places[places.indexOf(anchor) >= 0 ? target : places.length - 1].push(index);
    else if (kind === "before") places.splice(target, 0, [index]);
    draw();
  }

  function finish() {
    clean();
    if (places.flat().length < 2) return announce("Rank two answers at least.");
    const ranks = Array(count).fill(null);
    places.forEach((place, rank) => place.forEach((index) => (ranks[index] = rank)));
    submit({ ranks });
  }

  function chip(index) {
    const node = button(names[index], () => toggle(index), { class: "chip", "aria-label": `Answer ${names[index]}${ranked(index) ? ", ranked; press to take it out" : "; press to rank it next"}` });
    node.addEventListener("pointerdown", (event) => grab(event, node, index));
    return node;
  }

  function draw(said) {
    clean();
    const gap = (at) => el("li", { class: "gap", "data-before": at, "aria-hidden": "true" });
    order.replaceChildren(
      ...places.flatMap((place, rank) => [gap(rank), el("li", { class: "place", "data-on": rank }, el("span", { class: "rank" }, String(rank + 1)), place.map(chip))]),
      gap(places.length),
    );
    if (!places.length) order.append(el("li", { class: "hint" }, "Press 1, 2, 3 … from best to worst, or drag the letters here"));
    const rest = names.map((_, index) => index).filter((index) => !ranked(index));
    pool.replaceChildren(...(rest.length ? [el("span", { class: "small soft" }, "Not ranked:"), ...rest.map(chip)] : []));
    names.forEach((_, index) => {
      const rank = places.findIndex((place) => place.includes(index));
      badges[index].textContent = rank < 0 ? "" : `${rank + 1}${places[rank].length > 1 ? " =" : ""}`;
      cards[index].classList.toggle("ranked", rank >= 0);
    });
    send.disabled = places.flat().length < 2;
    if (said) announce(said);
  }

  function grab(event, node, index) {
    if (event.button) return;
    const start = { x: event.clientX, y: event.clientY };
    let ghost = null, over = null;
    const target = (x, y) => document.elementFromPoint(x, y)?.closest("[data-before], [data-on], .pool, .order");
    const move = (step) => {
      const far = Math.hypot(step.clientX - start.x, step.clientY - start.y) > 6;
      if (!ghost && far) {
        ghost = node.cloneNode(true);
        ghost.classList.add("ghost");
        document.body.append(ghost);
        picked = index;
      }
      if (!ghost) return;
      ghost.style.left = `${step.clientX}px`;
      ghost.style.top = `${step.clientY}px`;
      over?.classList.remove("over");
      over = target(step.clientX, step.clientY);
      over?.classList.add("over");
    };
    const end = (step) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
      removeEventListener("pointercancel", end);
      ghost?.remove();
      over?.classList.remove("over");
      if (!ghost || picked !== index) return;
      node.addEventListener("click", (click) => click.stopImmediatePropagation(), { capture: true, once: true });
      setTimeout(() => (picked = null), 0);
      if (step.type === "pointercancel" || !over) return;
      if (over.dataset.before !== undefined) drop(index, "before", Number(over.dataset.before));
      else if (over.dataset.on !== undefined) drop(index, "on", Number(over.dataset.on));
      else if (over.classList.contains("pool")) drop(index, "pool");
      else drop(index, "before", places.length);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    addEventListener("pointercancel", end);
  }

  const keys = { t: tieLast, "=": tieLast, Backspace: takeLast, Enter: finish };
  names.forEach((_, index) => index < 9 && (keys[String(index + 1)] = () => toggle(index)));
  draw();
  return {
    question: `Put these ${count} answers in order`,
    keys,
    help: [[`1 – ${Math.min(count, 9)}`, "answer A, B, … is next best; again: take it out"], ["t", "tie with the one before"], ["⌫", "take the last back"], ["⏎", "send; what is not ranked stays open"]],
  };
}
