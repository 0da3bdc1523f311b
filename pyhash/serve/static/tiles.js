// The answers: a tile each, which stays the same element while answers change their order.

import {show, thumbnail} from "./api.js";
import {$, element, folderOf, frameOver, nameOf} from "./dom.js";

const list = $("answers");
const tiles = new Map();  // id -> tile
let acts = {};  // what can be done with an answer: more, mark, open

export function start(actions) {
  acts = actions;
  list.addEventListener("focusin", (event) => current(event.target.closest("li")));
}

/** Show answers; those that were there move to their new places. */
export function render(matches) {
  const before = new Map([...tiles].map(([id, tile]) => [id, tile.getBoundingClientRect()]));
  const focused = document.activeElement.closest?.("#answers li");
  const kept = matches.map((match, place) => {
    const tile = tiles.get(match.id) ?? element("li");
    fill(tile, match, place);
    return [match.id, tile];
  });
  tiles.clear();
  for (const [id, tile] of kept) tiles.set(id, tile);
  list.replaceChildren(...tiles.values());
  current(tiles.get(Number(focused?.dataset.id)) ?? list.firstElementChild);
  if (focused && tiles.has(Number(focused.dataset.id))) focused.querySelector(".image").focus({preventScroll: true});
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) move(before);
}

function move(before) {
  for (const [id, tile] of tiles) {
    const from = before.get(id), to = tile.getBoundingClientRect();
    if (!from) tile.animate([{opacity: 0}, {opacity: 1}], 160);
    else if (from.x !== to.x || from.y !== to.y) {
      const away = `translate(${from.x - to.x}px, ${from.y - to.y}px)`;
      tile.animate([{transform: away}, {transform: "none"}], {duration: 220, easing: "ease-out"});
    }
  }
}

function fill(tile, match, place) {
  const {id, path = String(id), distance, similarity, part, copies, size} = match;
  const name = nameOf(path), folder = folderOf(path);
  let img = tile.querySelector("img");
  if (!img) {
    img = element("img", {alt: name, decoding: "async"});
    img.addEventListener("error", () => img.replaceWith(element("span", {textContent: "cannot be shown"})));
    show(img, thumbnail(id));
  }
  const image = element("button", {className: "image", title: path}, img,
    part?.box && size ? frameOver(size, part.box) : null,
    element("span", {className: "number", textContent: similarity === undefined ? distance : shareOf(similarity),
      title: similarity === undefined ? "distance" : "similarity"}),
    element("span", {className: "more", textContent: "more like this"}));
  image.addEventListener("click", () => acts.more(id));
  const near = element("i");
  near.style.width = 100 * Math.max(0, similarity ?? 1 / (1 + distance / 16)) + "%";
  const chips = [part && wordsOf(part), copies && `and ${copies} ${copies === 1 ? "copy" : "copies"}`].filter(Boolean);
  tile.className = "tile";
  tile.dataset.id = id;
  tile.dataset.place = place;
  tile.replaceChildren(image, element("div", {className: "near"}, near),
    element("div", {className: "caption"},
      element("div", {className: "name", textContent: name, title: path}),
      element("div", {className: "where", textContent: folder, title: folder}),
      element("div", {className: "where", textContent: `distance ${distance}`}),
      ...chips.map((text) => element("div", {className: "chip", textContent: text})),
      element("div", {className: "acts"},
        markButton(id, "like", "+", `Wanted: ${name}`), markButton(id, "not", "−", `Unwanted: ${name}`),
        actButton("⤢", `Open ${name}`, () => acts.open(Number(tile.dataset.place))))));
}

function shareOf(similarity) {
  return similarity.toFixed(2).replace(/^(-?)0\./, "$1.");
}

function wordsOf({kind, box, name}) {
  if (kind === "turned") return name;
  return name ? `part: ${name}` : box ? "a part" : kind;
}

function actButton(text, label, act) {
  const button = element("button", {className: "act", textContent: text, title: label, "aria-label": label});
  button.addEventListener("click", act);
  return button;
}

function markButton(id, side, text, label) {
  const button = actButton(text, label, () => acts.mark(id, side));
  button.dataset.side = side;
  button.setAttribute("aria-pressed", "false");
  return button;
}

/** Show what is marked: side of an id, or nothing. */
export function showMarks(sideOf) {
  for (const [id, tile] of tiles) {
    const marked = sideOf(id);
    tile.classList.toggle("wanted", marked === "like");
    tile.classList.toggle("unwanted", marked === "not");
    for (const button of tile.querySelectorAll("[data-side]")) {
      button.setAttribute("aria-pressed", String(button.dataset.side === marked));
    }
  }
}

// Keys: one tile can be reached with Tab, the others from it with arrows.

function current(tile) {
  if (!tile) return;
  for (const other of list.children) {
    for (const button of other.querySelectorAll("button")) button.tabIndex = other === tile ? 0 : -1;
  }
}

export function focused() {
  return document.activeElement.closest?.("#answers li") ?? null;
}

export function step(key) {
  const all = [...list.children];
  if (!all.length) return false;
  const at = all.indexOf(focused());
  if (at < 0) { all[0].querySelector(".image").focus(); return true; }
  const columns = all.filter((tile) => tile.offsetTop === all[0].offsetTop).length;
  const to = at + {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[key];
  all[to]?.querySelector(".image").focus();
  return Boolean(all[to]);
}
