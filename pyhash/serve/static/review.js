// Copies, a page of groups at a time. What is said of a group is a text of a letter for each image: s for stays, g for
// goes.

import {Problem, ask, show, thumbnail} from "./api.js";
import {compare} from "./compare.js";
import {$, element, folderOf, inBytes, many, nameOf, say} from "./dom.js";

const SIZE = 20;
const main = $("groups");
const tabs = [...document.querySelectorAll("#review [role=tab]")];
const said = new Map();  // group -> letters, where they are not as suggested
const seen = new Map();  // group -> {level, reason, images} of those that were shown
const undone = [];  // [group, letters] before each change

let page = null;  // what the views share
let at = {level: "duplicates", page: 1};
let groups = [];
let here = {group: 0, image: 0};  // what is looked at
let asking = 0;  // counts requests: an answer that came too late is not shown

export function start(shared) {
  page = shared;
  for (const tab of tabs) tab.addEventListener("click", () => go({level: tab.dataset.level, page: 1}));
  for (const button of document.querySelectorAll("#review [data-turn]")) {
    button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  }
  for (const id of ["turned", "cropped"]) {
    $(id).addEventListener("change", () => {  // other groups, to which nothing was said
      for (const kept of [said, seen]) kept.clear();
      undone.length = 0;
      go({...at, page: 1});
    });
  }
  $("save").addEventListener("click", save);
  $("undo").addEventListener("click", undo);
}

export async function visit({level, page: number}) {
  at = {level, page: number};
  document.title = "Copies · pyhash";
  for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.level === level));
  main.setAttribute("aria-labelledby", "tab-" + level);
  const mine = ++asking;
  const late = () => mine !== asking || $("review").hidden;
  try {
    for (;;) {
      const response = await ask(addressOf(level, number, SIZE));
      const content = await response.json();
      if (late()) return;
      if (response.status !== 202) { reveal(content); countOther(late); return; }
      wait(content);
      await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(response.headers.get("Retry-After")) || 1)));
      if (late()) return;
    }
  } catch (error) {
    if (!late()) page.fail(error, () => visit(at));
  }
}

function addressOf(level, number, size) {
  return `v1/duplicates?size=${size}&page=${number}&level=${level}` +
    `&turned=${$("turned").checked}&cropped=${$("cropped").checked}`;
}

function go(next) {
  page.visit(next.level === "duplicates" && next.page === 1 ? "#review" : `#review/${next.level}/${next.page}`);
  page.clear();
  visit(next);
  window.scrollTo(0, 0);
}

function wait({done, total}) {
  let bar = main.querySelector("progress");
  if (!bar) {
    bar = element("progress", {"aria-label": "Comparing images"});
    main.replaceChildren(element("p", {className: "none"}, "Comparing images with one another … ", bar));
    pager(1);
    say("Comparing images");
  }
  if (total) { bar.max = total; bar.value = done; }
}

function reveal(content) {
  groups = content.groups;
  here = {group: 0, image: 0};
  main.replaceChildren(...groups.map(groupElement));
  if (!groups.length) {
    const what = at.level === "duplicates" ? "There are no copies" : "There are no similar images";
    main.append(element("p", {className: "none", textContent: `${what} among ${many(content.images, "image")}.`}));
  }
  if (content.uncompared.length) {
    main.append(element("details", {}, element("summary", {textContent: `${many(content.uncompared.length, "image")} could not be compared`}),
      element("ul", {}, ...content.uncompared.map(({path, reason}) => element("li", {textContent: `${path}: ${reason}`})))));
  }
  count(at.level, content.total);
  pager(content.pages);
  groups.forEach((group, number) => { seen.set(keyOf(group), {...group, level: at.level}); refresh(number); });
  total();
  say(many(content.total, "group"));
}

function count(level, groupCount) {
  tabs.find((tab) => tab.dataset.level === level).querySelector("span").textContent = groupCount.toLocaleString("en");
}

async function countOther(late) {
  const level = at.level === "similar" ? "duplicates" : "similar";
  const {total: other} = await (await ask(addressOf(level, 1, 1))).json();
  if (!late() && other !== undefined) count(level, other);
}

function pager(pages) {
  const bar = document.querySelector("#review [data-pager]");
  bar.hidden = pages <= 1;
  bar.querySelector("span").textContent = `Page ${at.page} of ${pages}`;
  for (const button of bar.querySelectorAll("button")) {
    const to = at.page + Number(button.dataset.turn);
    button.disabled = to < 1 || to > pages;
  }
}

function turn(by) {
  const button = document.querySelector(`#review [data-turn="${by}"]`);
  if (!button.disabled && !button.parentElement.hidden) go({...at, page: at.page + by});
}

// A group

function keyOf(group) {
  return (group.level ?? at.level) + " " + group.images.map(({id}) => id).join(" ");
}

function suggested(group) {
  const level = group.level ?? at.level;
  const kept = group.images.findIndex((image) => !locked(image));
  return group.images.map((image, place) => place === kept || level === "similar" || locked(image) ? "s" : "g").join("");
}

/** Why nothing may be done with an image; empty where something may. */
function locked(image) {
  return image.away ? "its file is away" : image.digest === null ? "its file cannot be read" : "";
}

function lettersOf(group) {
  return said.get(keyOf(group)) ?? suggested(group);
}

function groupElement(group, number) {
  const button = (text, title, act) => {
    const made = element("button", {className: "plain", textContent: text, title});
    made.addEventListener("click", () => { look(number); act(); });
    return made;
  };
  const title = element("div", {className: "title"},
    element("h2", {textContent: ((at.page - 1) * SIZE + number + 1).toLocaleString("en")}),
    element("span", {className: "says"}),
    button("Compare", "d", difference),
    button(at.level === "similar" ? "Keep all" : "No copies", "x: keep all", keepAll),
    button("As suggested", "r", asSuggested));
  return element("section", {className: "group", "aria-label": `Group ${number + 1}`}, title,
    element("div", {className: "images"}, ...group.images.map((image, place) => imageElement(group, image, place, number))));
}

function imageElement(group, image, place, number) {
  const name = nameOf(image.path), best = group.images[0];
  const img = element("img", {alt: name, loading: "lazy", decoding: "async"});
  img.addEventListener("error", () => img.replaceWith(element("span", {textContent: "cannot be shown"})));
  show(img, thumbnail(image.id));
  const button = element("button", {className: "image", title: image.path}, img,
    element("span", {className: "number", textContent: place + 1}), element("span", {className: "state"}));
  button.addEventListener("focus", () => look(number, place));
  button.addEventListener("click", () => { look(number, place); toggle(place); });
  const facts = element("dl", {className: "what"});
  const fact = (title, value, other) => facts.append(element("dt", {textContent: title}),
    element("dd", {textContent: value ?? "–", className: other ? "other" : ""}));
  fact("pixels", image.width && `${image.width} × ${image.height}`, image.width !== best.width || image.height !== best.height);
  fact("bytes", inBytes(image.bytes), image.bytes !== best.bytes);
  fact("date", dateOf(image), dateOf(image) !== dateOf(best));
  if (image.format !== best.format || !place) fact("format", image.format, image.format !== best.format);
  const notes = [...image.differs, locked(image),
    image.joined_by && `like ${nameOf(image.joined_by)}`,
    image.certainty < 0.995 && `${Math.round(100 * image.certainty)} % sure`].filter(Boolean);
  return element("figure", {}, button, element("figcaption", {},
    element("div", {className: "name", textContent: name, title: image.path}),
    element("div", {className: "where", textContent: folderOf(image.path), title: image.path}), facts,
    element("ul", {className: "notes"}, ...notes.map((note) => element("li", {textContent: note})))));
}

function dateOf({modified}) {
  return new Date(1000 * modified).toISOString().slice(0, 10);
}

function refresh(number) {
  const group = groups[number], letters = lettersOf(group), section = main.children[number];
  const goes = [...letters].filter((letter) => letter === "g").length;
  const kept = letters.indexOf("s");
  section.querySelector(".says").replaceChildren(...goes
    ? ["keeps ", element("b", {textContent: nameOf(group.images[kept].path)}),
      (kept === 0 && group.reason ? `, ${group.reason}` : "") + `; ${goes} of ${letters.length} set aside`]
    : [`all ${letters.length} are kept`, group.chained ? "; not each was proved to be a copy of the first" : ""]);
  section.classList.toggle("leaves", !goes);
  section.classList.toggle("now", number === here.group);
  section.querySelectorAll("figure").forEach((figure, place) => {
    const stays = letters[place] === "s";
    figure.className = [stays ? "stays" : "goes", number === here.group && place === here.image ? "here" : ""].join(" ");
    figure.querySelector(".state").textContent = stays ? "keep" : "set aside";
    figure.querySelector(".image").setAttribute("aria-pressed", String(stays));
  });
}

function total() {
  let count = 0, bytes = 0;
  for (const group of seen.values()) {
    const letters = lettersOf(group);
    group.images.forEach((image, place) => { if (letters[place] === "g") { count += 1; bytes += image.bytes; } });
  }
  $("total").textContent = count ? `${many(count, "image")} set aside of what was shown, ${inBytes(bytes)}` : "All images are kept";
  $("undo").disabled = !undone.length;
  $("save").disabled = !count;
}

// Looking and saying

function look(group, image = 0, scroll = false) {
  if (!groups.length) return;
  const before = here.group;
  group = Math.min(Math.max(group, 0), groups.length - 1);
  here = {group, image: Math.min(Math.max(image, 0), groups[group].images.length - 1)};
  refresh(before);
  refresh(group);
  if (scroll) main.children[group].scrollIntoView({block: "nearest"});
}

function settle(group, letters) {
  const key = keyOf(group);
  undone.push([key, said.get(key)]);
  if (letters === suggested(group)) said.delete(key);
  else said.set(key, letters);
  refresh(here.group);
  total();
}

function toggle(place) {
  const group = groups[here.group], letters = lettersOf(group);
  const stays = letters[place] === "s";
  const changed = letters.slice(0, place) + (stays ? "g" : "s") + letters.slice(place + 1);
  if (locked(group.images[place])) { page.fail(new Problem(0, `Nothing may be done with this image: ${locked(group.images[place])}.`)); return; }
  if (![...changed].some((letter, other) => letter === "s" && !locked(group.images[other]))) { page.fail(new Problem(0, "One image of each group is kept: choose another first.")); return; }
  page.clear();
  settle(group, changed);
  say(stays ? "Set aside" : "Kept");
}

function keepAll() {
  if (groups.length) settle(groups[here.group], "s".repeat(groups[here.group].images.length));
}

function asSuggested() {
  if (groups.length) settle(groups[here.group], suggested(groups[here.group]));
}

function undo() {
  if (!undone.length) return;
  const [key, letters] = undone.pop();
  if (letters === undefined) said.delete(key);
  else said.set(key, letters);
  const number = groups.findIndex((group) => keyOf(group) === key);
  if (number >= 0) { look(number, 0, true); refresh(number); }
  total();
  say("Undone");
}

async function difference() {
  if (!groups.length) return;
  const {images} = groups[here.group];
  page.clear();
  try {
    await compare(images[0], images[here.image || 1]);
  } catch (error) {
    page.fail(error instanceof Problem ? error : new Problem(0, "These images cannot be shown here."));
  }
}

/** Write down what was said of the groups that were shown, for pyhash dedupe FOLDER --apply. */
function save() {
  const asSeen = ({path, bytes, mtime_ns, digest}) => ({path, size: bytes, mtime_ns, digest});
  const steps = [];
  for (const group of seen.values()) {
    const letters = lettersOf(group), {images, level, reason} = group;
    const kept = images.findIndex((image, place) => letters[place] === "s" && !locked(image));
    const why = kept === 0 && reason ? reason : "chosen by hand";
    images.forEach((image, place) => {
      if (letters[place] === "g") steps.push({level, why, file: asSeen(image), kept: asSeen(images[kept])});
    });
  }
  if (!steps.length) return;
  const text = JSON.stringify({pyhash: "choices", version: 1, steps}, null, 1) + "\n";
  const link = element("a", {href: URL.createObjectURL(new Blob([text], {type: "application/json"})), download: "choices.json"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  $("saved-title").textContent = many(steps.length, "image") + " in choices.json";
  $("saved").showModal();
}

export const keys = {
  j: () => look(here.group + 1, 0, true),
  k: () => look(here.group - 1, 0, true),
  ArrowRight: () => look(here.group, here.image + 1),
  ArrowLeft: () => look(here.group, here.image - 1),
  " ": (event) => {
    if (!groups.length || event.target.matches("button:not(.image), a, input, summary")) return false;
    toggle(here.image);
  },
  x: keepAll,
  r: asSuggested,
  u: undo,
  d: difference,
  s: save,
  n: () => turn(1),
  p: () => turn(-1),
  t: () => go({level: at.level === "similar" ? "duplicates" : "similar", page: 1}),
  ...Object.fromEntries([..."123456789"].map((digit) => [digit, () => {
    if (groups.length && digit <= groups[here.group].images.length) { look(here.group, digit - 1); toggle(digit - 1); }
  }])),
};
