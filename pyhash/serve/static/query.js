// The panel that says what is searched for: examples of both sides, and the options.

import {show, thumbnail} from "./api.js";
import {$, element, frameOver} from "./dom.js";
import {START} from "./state.js";

let acts = {};  // what can be done: take, remove, part, again, change, fresh

export function start(actions) {
  acts = actions;
  let adding = false;
  const pick = (more) => { adding = more; $("file").click(); };
  $("pick").addEventListener("click", () => pick(false));
  $("add").addEventListener("click", () => pick(true));
  $("new").addEventListener("click", () => acts.fresh());
  $("again").addEventListener("click", () => acts.again());
  $("file").addEventListener("change", () => {
    if ($("file").files.length) acts.take([...$("file").files], adding);
    $("file").value = "";
  });
  $("further").open = matchMedia("(min-width: 761px)").matches;
  watchDrops();
  document.addEventListener("paste", (event) => {
    const files = imagesOf(event.clipboardData);
    if (files.length && !document.querySelector("dialog[open]")) { event.preventDefault(); acts.take(files, false); }
  });
  let waiting = 0;
  $("t").addEventListener("input", () => {  // at once, but not at every pixel
    tellKind();
    clearTimeout(waiting);
    waiting = setTimeout(() => acts.change({t: Number($("t").value)}), 120);
  });
  $("k").addEventListener("change", () => acts.change({k: Number($("k").value)}));
  $("distinct").addEventListener("change", () => acts.change({distinct: $("distinct").checked}));
  $("folder").addEventListener("change", () => acts.change({folder: $("folder").value.trim().replace(/^\/+|\/+$/g, "")}));
  $("options").addEventListener("submit", (event) => event.preventDefault());
}

function imagesOf(transfer) {
  return [...transfer?.files ?? []].filter((file) => !file.type || file.type.startsWith("image/"));
}

function watchDrops() {
  const over = (on) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  document.addEventListener("drop", (event) => {
    over(false);
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    const files = imagesOf(event.dataTransfer);
    if (files.length) acts.take(files, Boolean(event.target.closest?.("#asked")));
    else acts.refuse("What was dropped is no image.");
  });
}

/** Some images of the gallery, for who has none at hand. */
export function offer(images, more) {
  $("some").querySelector("ul").replaceChildren(...images.map(({id, path}) => {
    const img = element("img", {alt: path, decoding: "async"});
    show(img, thumbnail(id));
    const button = element("button", {className: "image", title: path}, img);
    button.addEventListener("click", () => more(id));
    return element("li", {}, button);
  }));
}

export function pick() {
  $("pick").click();
}

/** Show a state; what differs from it in the draft is marked as not searched yet. */
export function render(state, draft, changed, sizes) {
  const any = draft.like.length + draft.not.length > 0;
  $("search").classList.toggle("empty", !any);
  $("drop").hidden = any;
  $("some").hidden = any || !$("some").querySelector("li");
  $("asked").hidden = $("options").hidden = !any;
  for (const side of ["like", "not"]) {
    const searched = new Set(state[side].map(({key}) => key));
    $(side).replaceChildren(...draft[side].map((example, place) =>
      exampleElement(example, side, place, !searched.has(example.key), sizes)));
    $(side).hidden = $(side + "-title").hidden = !draft[side].length;
  }
  $("again").hidden = !changed;
  $("again").disabled = !draft.like.length;
  $("again").textContent = draft.like.length ? "Search with these" : "Mark one as wanted, too";
  if (document.activeElement !== $("t")) $("t").value = state.t;
  tellKind();
  if (![...$("k").options].some((option) => option.value === String(state.k))) $("k").append(new Option(state.k, state.k));
  $("k").value = state.k;
  $("folder").value = state.folder;
  $("distinct").checked = state.distinct;
}

function tellKind() {
  const t = Number($("t").value);
  const words = t === START.t ? "as much the same kind as the same picture"
    : t < START.t ? "rather the same kind" : "rather the same picture";
  $("t").setAttribute("aria-valuetext", t === 0 ? "the same kind" : t === 1 ? "the same picture" : words);
}

function exampleElement(example, side, place, fresh, sizes) {
  const {id, file, crop} = example;
  const name = file ? file.name : `image ${id}`;
  const img = element("img", {alt: name});
  img.addEventListener("error", () => img.replaceWith(element("span", {textContent: name})));
  if (file) img.src = file.url;
  else show(img, thumbnail(id));
  const part = element("button", {className: "image", title: "Choose a part", "aria-label": `Choose a part of ${name}`}, img);
  const size = file ? [file.width, file.height] : sizes.get(id);
  if (crop && size) part.append(frameOver(size, crop));
  part.disabled = Boolean(file) && !file.width;
  part.addEventListener("click", () => acts.part(side, place));
  const remove = element("button", {className: "act remove", textContent: "×", title: "Remove", "aria-label": `Remove ${name}`});
  remove.addEventListener("click", () => acts.remove(side, place));
  return element("li", {className: `${side} ${fresh ? "fresh" : ""}`}, part, remove,
    crop ? element("span", {className: "chip", textContent: "a part"}) : null);
}
