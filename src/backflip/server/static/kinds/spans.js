// Label passages of one answer, by mouse or by keys. Offsets count code points, as Python does.

import { announce, button, choice, el, promptBox } from "../dom.js";

export function mount(stage, deck, item, config, submit) {
  const letters = [...item.text]; // code points: an emoji is one
  const spans = item.before?.spans ?? [];
  const tokens = words(letters);
  let cursor = 0, anchor = null; // token indices

  const nodes = tokens.map(([from, to]) => {
    const node = el("span", { class: "word" }, letters.slice(from, to).join(""));
    node.dataset.from = from;
    return node;
  });
  const text = el("div", { class: "spans said plain", dir: "auto", tabindex: 0, role: "textbox", "aria-readonly": "true", "aria-multiline": "true", "aria-label": "Answer. Arrow keys move by word, with shift they select, numbers label." }, nodes);
  const how = el("p", { class: "soft small" }, "Select a passage, then its label. Nothing to mark? Send it as it is.");
  stage.append(...[promptBox(item.prompt), how, el("article", { class: "answer" }, el("div", { class: "body" }, text))].filter(Boolean));

  const list = el("ul", { class: "labelled" });
  const labels = config.span_labels.map((label, index) => choice(label, index < 9 ? String(index + 1) : "", () => apply(index), { class: `choice span-${index % 6}` }));
  deck.append(el("div", { class: "others" }, labels, choice("Send", "⏎", finish, { class: "choice first" })), list);

  function selection() {
    const chosen = getSelection();
    if (chosen.rangeCount && !chosen.isCollapsed && text.contains(chosen.anchorNode) && text.contains(chosen.focusNode)) {
      const range = chosen.getRangeAt(0);
      const [start, end] = [place(range.startContainer, range.startOffset), place(range.endContainer, range.endOffset)];
      if (end > start) return { start, end };
    }
    if (anchor === null) return null;
    const [low, high] = [Math.min(anchor, cursor), Math.max(anchor, cursor)];
    return { start: tokens[low][0], end: tokens[high][1] };
  }

  /** Code points before a place in the text. */
  function place(node, offset) {
    const word = node.nodeType === Node.TEXT_NODE ? node.parentElement.closest(".word") : null;
    if (word) return Number(word.dataset.from) + [...node.data.slice(0, offset)].length;
    const child = node.childNodes[offset]?.closest?.(".word") || node.closest?.(".word");
    return child ? Number(child.dataset.from) : letters.length;
  }

  function apply(index) {
    const chosen = selection();
    if (!chosen) return announce("Select a passage first: with the mouse, or with shift and the arrow keys.");
    const trimmed = trim(chosen);
    if (!trimmed) return;
    spans.push({ ...trimmed, label: config.span_labels[index] });
    getSelection().removeAllRanges();
    anchor = null;
    announce(`${config.span_labels[index]}: ${letters.slice(trimmed.start, trimmed.end).join("").slice(0, 80)}`);
    draw();
  }

  function trim({ start, end }) {
    while (start < end && /\s/.test(letters[start])) start += 1;
    while (end > start && /\s/.test(letters[end - 1])) end -= 1;
    return end > start ? { start, end } : null;
  }

  function draw() {
    nodes.forEach((node, index) => {
      const [from, to] = tokens[index];
      const inside = spans.filter((span) => span.start < to && span.end > from);
      const label = inside.length ? config.span_labels.indexOf(inside[inside.length - 1].label) % 6 : null;
      const chosen = anchor !== null && index >= Math.min(anchor, cursor) && index <= Math.max(anchor, cursor);
      node.className = `word${label === null ? "" : ` marked span-${label}`}${index === cursor ? " cursor" : ""}${chosen ? " chosen" : ""}`;
    });
    list.replaceChildren(...spans.map((span, index) => el("li", {},
      el("b", {}, span.label), " ", el("q", { dir: "auto" }, letters.slice(span.start, span.end).join("").slice(0, 60)),
      button("Remove", () => { spans.splice(index, 1); draw(); }, { class: "button quiet little", "aria-label": `Remove ${span.label}, passage ${index + 1}` }))));
  }

  function move(step, select) {
    if (select && anchor === null) anchor = cursor;
    if (!select) anchor = null;
    do cursor = Math.max(0, Math.min(tokens.length - 1, cursor + step));
    while (cursor > 0 && cursor < tokens.length - 1 && !letters.slice(...tokens[cursor]).join("").trim());
    draw();
    nodes[cursor].scrollIntoView({ block: "nearest" });
    announce(letters.slice(...tokens[cursor]).join(""));
  }

  function finish() {
    submit({ spans });
  }
  const keys = {
    ArrowLeft: (event) => move(-1, event.shiftKey), ArrowRight: (event) => move(1, event.shiftKey),
    Enter: finish, Backspace: () => { spans.pop(); draw(); },
  };
  config.span_labels.forEach((_, index) => index < 9 && (keys[String(index + 1)] = () => apply(index)));
  draw();
  return {
    question: "Mark the passages", keys,
    help: [["mouse", "select a passage"], ["← →", "move by word; with shift: select"], [`1 – ${Math.min(9, labels.length)}`, "label the passage"], ["⌫", "remove the last"], ["⏎", "send; no passage is an answer too"]],
  };
}

/** Words and the gaps between them, as [from, to) in code points. */
function words(letters) {
  const found = [];
  const kind = (letter) => (/\s/.test(letter) ? 0 : /[\p{L}\p{N}\p{M}_]/u.test(letter) ? 1 : 2);
  for (let from = 0; from < letters.length;) {
    let to = from + 1;
    while (to < letters.length && kind(letters[to]) === kind(letters[from]) && to - from < 40) to += 1;
    found.push([from, to]);
    from = to;
  }
  return found.length ? found : [[0, 0]];
}
