// Clips side by side: video, a picture, or frames shown one after the other.

import { button, el } from "./dom.js";

const FRAMES_A_SECOND = 12;
const LAST_FRAME_MS = 200; // held, so that one sees where the loop begins anew

export function clipCard(letter, clip) {
  const card = el("article", { class: "answer clip", "aria-label": `Clip ${letter}` }, el("header", {}, el("h2", {}, el("span", { class: "sr" }, "Clip "), letter)));
  const makers = { video, image, frames };
  const { node, player } = (makers[clip.media] || image)(clip, letter);
  card.append(node);
  card.player = player;
  return card;
}

function broken(node, letter) {
  node.addEventListener("error", () => node.replaceWith(el("p", { class: "notice bad" }, `Clip ${letter} cannot be shown. Skip this item, and say why.`)), { once: true });
}

function video(clip, letter) {
  const node = el("video", { src: clip.url, controls: true, loop: true, playsinline: true, preload: "auto", "aria-label": `Video ${letter}` });
  node.muted = true;
  broken(node, letter);
  const player = {
    get playing() { return !node.paused; },
    play: () => node.play().catch(() => {}),
    pause: () => node.pause(),
    restart: () => (node.currentTime = 0),
  };
  if (!calm()) player.play();
  return { node, player };
}

function image(clip, letter) {
  const node = el("img", { src: clip.url, alt: clip.alt || `Picture ${letter}` });
  broken(node, letter);
  return { node, player: null };
}

function frames(clip, letter) {
  const urls = clip.frames || [clip.url];
  const pictures = urls.map((url) => Object.assign(new Image(), { src: url }));
  const node = el("img", { alt: `Clip ${letter}, ${urls.length} frames`, src: urls[0] });
  let at = 0, timer = null;
  const show = () => {
    node.src = pictures[at].src;
    const last = at === urls.length - 1;
    at = (at + 1) % urls.length;
    timer = setTimeout(show, last ? LAST_FRAME_MS : 1000 / FRAMES_A_SECOND);
  };
  const player = {
    get playing() { return timer !== null; },
    play: () => timer === null && show(),
    pause: () => { clearTimeout(timer); timer = null; },
    restart: () => (at = 0),
  };
  broken(node, letter);
  if (!calm()) player.play();
  const toggle = button("Play or pause", () => (player.playing ? player.pause() : player.play()), { class: "button little" });
  return { node: el("div", { class: "frames" }, node, toggle), player };
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function clipKeys(cards) {
  const players = cards.map((card) => card.player).filter(Boolean);
  return {
    " ": () => {
      const playing = players.some((player) => player.playing);
      players.forEach((player) => (playing ? player.pause() : player.play()));
    },
    r: () => players.forEach((player) => { player.restart(); player.play(); }),
  };
}
