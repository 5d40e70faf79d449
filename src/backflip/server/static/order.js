// Letters to be put in order: by keys, by clicks or by dragging; ties and unranked ones allowed.

import { announce, button, el } from "./dom.js";

const HINT = matchMedia("(hover: none)").matches
  ? "Best first: tap the letters, or drag them here"
  : "Best first: press 1 for A, 2 for B …, or click or drag the letters";

/** names: what is ordered; noun: what a screen reader calls one; ranks: what to begin with, one for each or null;
 *  changed(places): told after every step, the best place first: [[0], [2, 1]] has a tie. */
export function orderBoard(names, { noun, ranks: given = [], changed }) {
  let places = names.map((_, rank) => names.map((_, index) => index).filter((index) => given[index] === rank));
  let picked = null;
  const order = el("ol", { class: "order", "aria-label": "Your order, best first" });
  const pool = el("div", { class: "pool", role: "group", "aria-label": "Not ranked yet" });
  const node = el("div", { class: "ranking" }, order, pool);

  const clean = () => (places = places.filter((place) => place.length));
  const without = (index) => places.forEach((place, number) => (places[number] = place.filter((other) => other !== index)));
  const ranked = (index) => places.some((place) => place.includes(index));

  function append(index) {
    without(index);
    clean();
    places.push([index]);
    draw(`${noun} ${names[index]} is number ${places.length}.`);
  }

  function toggle(index) {
    if (!ranked(index)) return append(index);
    without(index);
    draw(`${noun} ${names[index]} is not ranked.`);
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
    draw(`${noun} ${names[index]} taken back.`);
  }

  /** Put one at a place, or between two: kind is "on" (tie), "before" or "pool". */
  function drop(index, kind, target) {
    const anchor = target === undefined ? undefined : places[target];
    without(index);
    if (kind === "on" && anchor) places[places.indexOf(anchor) >= 0 ? target : places.length - 1].push(index);
    else if (kind === "before") places.splice(target, 0, [index]);
    draw();
  }

  function chip(index) {
    const letter = button(names[index], () => toggle(index), { class: "chip", "aria-label": `${noun} ${names[index]}${ranked(index) ? ", ranked; press to take it out" : "; press to rank it next"}` });
    letter.addEventListener("pointerdown", (event) => grab(event, letter, index));
    return letter;
  }

  function draw(said) {
    clean();
    const focused = document.activeElement; // by keys: after a click or a drag ⏎ sends, and does not take the chip out
    const held = node.contains(focused) && focused.matches(":focus-visible") ? focused.textContent : null;
    const gap = (at) => el("li", { class: "gap", "data-before": at, "aria-hidden": "true" });
    order.replaceChildren(
      ...places.flatMap((place, rank) => [gap(rank), el("li", { class: "place", "data-on": rank }, el("span", { class: "rank" }, String(rank + 1)), place.map(chip))]),
      gap(places.length),
    );
    if (!places.length) order.append(el("li", { class: "hint" }, HINT));
    const rest = names.map((_, index) => index).filter((index) => !ranked(index));
    pool.replaceChildren(...(rest.length ? [el("span", { class: "small soft" }, "Not ranked:"), ...rest.map(chip)] : []));
    if (held) [...node.querySelectorAll(".chip")].find((one) => one.textContent === held)?.focus({ preventScroll: true });
    changed(places);
    if (said) announce(said);
  }

  function grab(event, letter, index) {
    if (event.button) return;
    const start = { x: event.clientX, y: event.clientY };
    let ghost = null, over = null;
    const target = (x, y) => document.elementFromPoint(x, y)?.closest("[data-before], [data-on], .pool, .order");
    const move = (step) => {
      const far = Math.hypot(step.clientX - start.x, step.clientY - start.y) > 6;
      if (!ghost && far) {
        ghost = letter.cloneNode(true);
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
      letter.addEventListener("click", (click) => click.stopImmediatePropagation(), { capture: true, once: true });
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

  const keys = { t: tieLast, "=": tieLast, Backspace: takeLast };
  names.forEach((_, index) => index < 9 && (keys[String(index + 1)] = () => toggle(index)));
  /** One rank for each name, 0 is best; those that nobody ranked get ``rest``. */
  const ranks = (rest) => names.map((_, index) => (ranked(index) ? places.findIndex((place) => place.includes(index)) : rest));
  draw();
  return { node, keys, ranks, tieLast, takeLast, best: () => places[0]?.[0], places: () => places, count: () => places.flat().length };
}

/** Say on each card which place it has. */
export function badge(badges, cards, places) {
  badges.forEach((node, index) => {
    const rank = places.findIndex((place) => place.includes(index));
    node.textContent = rank < 0 ? "" : `${rank + 1}${places[rank].length > 1 ? " =" : ""}`;
    cards[index].classList.toggle("ranked", rank >= 0);
  });
}
