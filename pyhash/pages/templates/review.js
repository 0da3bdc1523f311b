"use strict";
// What is said of a group is a text of a letter for each image: s for stays, g for goes. Blocks of groups are read when
// their page is looked at. Names are put in as text alone.

const about = JSON.parse(document.getElementById("about").textContent);
const sums = about.sums;
const memory = "pyhash review " + about.key;
const said = {duplicates: {}, similar: {}};  // group -> letters, where they are not as suggested
const main = document.getElementById("groups");
let level = sums.duplicates.length || !sums.similar.length ? "duplicates" : "similar";
const places = {duplicates: {group: 0, image: 0}, similar: {group: 0, image: 0}};  // what is looked at
let block = {name: "", groups: []};

try {
  const remembered = JSON.parse(localStorage.getItem(memory));
  for (const name of ["duplicates", "similar"]) {
    for (const [group, letters] of Object.entries(remembered ? remembered[name] : {})) {
      const sum = sums[name][group];
      if (sum && letters.length === sum.start.length && /^[sg]+$/.test(letters)) said[name][group] = letters;
    }
  }
} catch (error) { /* a browser that keeps nothing */ }

function remember() {
  try { localStorage.setItem(memory, JSON.stringify(said)); } catch (error) { /* see above */ }
}

function lettersOf(name, group) {
  return said[name][group] || sums[name][group].start;
}

function read(name, page) {
  return JSON.parse(document.getElementById(name + "-" + page).textContent);
}

function pageOf(group) {
  return Math.floor(group / about.page);
}

function pages() {
  return Math.max(1, Math.ceil(sums[level].length / about.page));
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function many(count, thing) {
  return count.toLocaleString("en") + " " + thing + (count === 1 ? "" : "s");
}

function inBytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return (unit && count < 9.95 ? count.toFixed(1) : Math.round(count)) + " " + units[unit];
}

// Showing

function show() {
  const page = pageOf(places[level].group);
  const start = page * about.page;
  block = {start, groups: sums[level].length ? read(level, page) : []};
  main.replaceChildren(...block.groups.map((group, place) => groupElement(group, start + place)));
  if (!block.groups.length) {
    main.append(element("p", {className: "none", textContent: "There are no copies."}));
  }
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.level === level));
  }
  main.setAttribute("aria-labelledby", "tab-" + level);
  for (const pager of document.querySelectorAll("[data-pager]")) {
    pager.hidden = pages() === 1;
    pager.querySelector("input").value = page + 1;
    pager.querySelector("span").textContent = "of " + pages().toLocaleString("en");
    for (const button of pager.querySelectorAll("button")) {
      const other = page + Number(button.dataset.turn);
      button.disabled = other < 0 || other >= pages();
    }
  }
  for (let group = start; group < start + block.groups.length; group += 1) refresh(group);
  total();
  tell();
}

function groupElement(group, number) {
  const images = element("div", {className: "images"}, ...group.images.map((image, place) => imageElement(image, place, number)));
  const stay = element("button", {className: "plain", textContent: "All stay", title: "x"});
  stay.addEventListener("click", () => { look(number); allStay(); });
  const again = element("button", {className: "plain", textContent: "As suggested", title: "r"});
  again.addEventListener("click", () => { look(number); asSuggested(); });
  const title = element("div", {className: "title"},
    element("h2", {textContent: (number + 1).toLocaleString("en")}), element("span", {className: "says"}), stay, again);
  return element("section", {className: "group"}, title, images);
}

function imageElement(image, place, number) {
  const shown = image.thumbnail
    ? element("img", {src: image.thumbnail, alt: "", loading: "lazy", decoding: "async"})
    : element("span", {textContent: "cannot be shown"});
  const button = element("button", {className: "image", title: image.path}, shown,
    element("span", {className: "number", textContent: place + 1}), element("span", {className: "why"}),
    element("span", {className: "state"}));
  button.addEventListener("click", () => { look(number, place); toggle(place); });
  const facts = element("dl", {className: "what"});
  for (const [name, value] of Object.entries(image.facts)) {
    const shownValue = element("dd", {textContent: value || "–"});
    shownValue.dataset.fact = name;
    facts.append(element("dt", {textContent: name}), shownValue);
  }
  const notes = element("ul", {className: "notes"}, ...image.notes.map((note) => element("li", {textContent: note})),
    image.locked ? element("li", {className: "lock", textContent: "stays: " + image.locked}) : null);
  const open = element("a", {href: image.link, target: "_blank", rel: "noopener noreferrer", textContent: "open"});
  const name = element("div", {className: "name", title: image.path}, element("span", {textContent: image.name}), open);
  return element("figure", {}, button, element("figcaption", {}, name,
    image.where ? element("div", {className: "where", textContent: image.where, title: image.path}) : null, facts, notes));
}

function keptOf(name, group, images) {  // the one that the others are copies of: as suggested where that stays
  const sum = sums[name][group];
  const letters = lettersOf(name, group);
  const stays = (place) => letters[place] === "s" && images[place].seen !== null;
  if (sum.kept !== null && stays(sum.kept)) return sum.kept;
  return images.findIndex((_, place) => stays(place));
}

function refresh(group) {
  const section = main.children[group - block.start];
  const shown = block.groups[group - block.start];
  const sum = sums[level][group];
  const letters = lettersOf(level, group);
  const goes = [...letters].filter((letter) => letter === "g").length;
  const kept = Math.max(0, keptOf(level, group, shown.images));
  const says = section.querySelector(".says");
  if (goes) {
    says.replaceChildren("keeps ", element("b", {textContent: shown.images[kept].name}),
      (kept === sum.kept && shown.why ? ", " + shown.why : "") + "; " + goes + " of " + letters.length + " set aside");
  } else {
    says.replaceChildren("all " + letters.length + " stay");
  }
  section.classList.toggle("leaves", !goes);
  section.classList.toggle("now", group === places[level].group);
  shown.images.forEach((image, place) => {
    const figure = section.querySelectorAll("figure")[place];
    const stays = letters[place] === "s";
    figure.className = (stays ? "stays" : "goes") + (place === places[level].image ? " here" : "");
    const button = figure.querySelector(".image");
    button.setAttribute("aria-pressed", String(stays));
    button.setAttribute("aria-label", image.name + (stays ? ", stays" : ", set aside"));
    button.querySelector(".state").textContent = stays ? "✓ stays" : "set aside";
    const why = button.querySelector(".why");
    why.hidden = place !== sum.kept || !shown.why;
    why.textContent = why.hidden ? "" : shown.why;
    why.title = why.textContent;
    for (const value of figure.querySelectorAll("dd")) {
      value.classList.toggle("other", place !== kept && image.facts[value.dataset.fact] !== shown.images[kept].facts[value.dataset.fact]);
    }
  });
}

function total() {
  let count = 0, bytes = 0, groups = 0;
  for (const name of ["duplicates", "similar"]) {
    sums[name].forEach((sum, group) => {
      const letters = lettersOf(name, group);
      if (letters.includes("g")) groups += 1;
      for (let place = 0; place < letters.length; place += 1) {
        if (letters[place] === "g") { count += 1; bytes += sum.bytes[place]; }
      }
    });
  }
  document.getElementById("total").textContent =
    count ? many(count, "image") + " of " + many(groups, "group") + " set aside, " + inBytes(bytes) : "All images stay";
  document.getElementById("save").disabled = !count;
}

let forgetting = 0;
function tell(text) {  // for some seconds in place of the path of what is looked at
  const told = document.getElementById("told");
  clearTimeout(forgetting);
  forgetting = text ? setTimeout(tell, 5000) : 0;
  const shown = block.groups.length ? block.groups[places[level].group - block.start].images[places[level].image].path : "";
  told.textContent = text || shown;
  told.classList.toggle("said", Boolean(text));
  told.setAttribute("role", text ? "alert" : "none");
}

// Looking and saying

function look(group, image = 0, scroll = false) {
  const before = places[level].group;
  if (!sums[level].length) return;
  group = Math.min(Math.max(group, 0), sums[level].length - 1);
  places[level] = {group, image: Math.min(Math.max(image, 0), sums[level][group].start.length - 1)};
  if (pageOf(before) !== pageOf(group)) show();
  else { refresh(before); refresh(group); tell(); }
  if (scroll) main.children[group - block.start].scrollIntoView({block: "nearest"});
}

function turn(by) {
  turnTo(pageOf(places[level].group) + by);
}

function turnTo(page) {
  if (!(page >= 0 && page < pages())) { show(); return; }
  places[level] = {group: page * about.page, image: 0};
  show();
  window.scrollTo(0, 0);
}

function say(letters) {
  const group = places[level].group;
  if (letters === sums[level][group].start) delete said[level][group];
  else said[level][group] = letters;
  remember();
  refresh(group);
  total();
}

function toggle(place) {
  const group = places[level].group;
  const sum = sums[level][group];
  const letters = lettersOf(level, group);
  if (place >= letters.length) return;
  const images = block.groups[group - block.start].images;
  if (sum.locked[place] === "l") {
    tell("Nothing may be done with this image: " + images[place].locked);
    return;
  }
  const changed = letters.slice(0, place) + (letters[place] === "s" ? "g" : "s") + letters.slice(place + 1);
  if (![...changed].some((letter, other) => letter === "s" && images[other].seen !== null)) {
    tell("One image of each group stays: choose another first");
    return;
  }
  say(changed);
}

function allStay() {
  if (sums[level].length) say("s".repeat(sums[level][places[level].group].start.length));
}

function asSuggested() {
  if (sums[level].length) say(sums[level][places[level].group].start);
}

function open() {
  const {group, image} = places[level];
  main.children[group - block.start].querySelectorAll("figure a")[image].click();
}

function changeLevel(name) {
  if (name === level || !sums[name].length) return;
  level = name;
  show();
}

// The plan

function plan() {
  const steps = [];
  for (const name of ["duplicates", "similar"]) {
    let page = -1, groups = [];
    sums[name].forEach((sum, group) => {
      const letters = lettersOf(name, group);
      if (!letters.includes("g")) return;
      if (pageOf(group) !== page) { page = pageOf(group); groups = read(name, page); }
      const {images, why} = groups[group - page * about.page];
      const kept = keptOf(name, group, images);
      if (kept < 0) return;
      const reason = JSON.stringify(kept === sum.kept && why ? why : "chosen by hand");
      images.forEach((image, place) => {
        if (letters[place] !== "g" || sum.locked[place] === "l" || image.seen === null) return;
        steps.push('\n  {"action": null, "level": "' + name + '", "why": ' + reason + ',\n   "file": ' + image.seen +
          ',\n   "kept": ' + images[kept].seen + "}");
      });
    });
  }
  return {count: steps.length, text: about.around[0] + steps.join(",") + "\n " + about.around[1] + "\n"};
}

function save() {
  if (document.getElementById("save").disabled) return;
  const {count, text} = plan();
  const link = element("a", {href: URL.createObjectURL(new Blob([text], {type: "application/json"})), download: "plan.json"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  document.getElementById("saved-title").textContent = many(count, "image") + " in plan.json";
  document.getElementById("saved").showModal();
}

const keys = {
  j: () => look(places[level].group + 1, 0, true),
  k: () => look(places[level].group - 1, 0, true),
  ArrowRight: () => look(places[level].group, places[level].image + 1),
  ArrowLeft: () => look(places[level].group, places[level].image - 1),
  " ": () => toggle(places[level].image),
  x: allStay,
  r: asSuggested,
  o: open,
  n: () => turn(1),
  p: () => turn(-1),
  t: () => changeLevel(level === "similar" ? "duplicates" : "similar"),
  s: save,
  "?": () => document.getElementById("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input") || document.querySelector("dialog[open]")) return;
  if (/^[1-9]$/.test(event.key)) {
    const place = Number(event.key) - 1;
    if (sums[level].length && place < sums[level][places[level].group].start.length) { look(places[level].group, place); toggle(place); }
  } else if (Object.hasOwn(keys, event.key)) {
    if (event.key === " " && event.target.matches("button, a") && !event.target.matches(".image")) return;
    keys[event.key]();
  } else {
    return;
  }
  event.preventDefault();
});

for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => changeLevel(tab.dataset.level));
}
for (const pager of document.querySelectorAll("[data-pager]")) {
  for (const button of pager.querySelectorAll("button")) {
    button.addEventListener("click", () => turn(Number(button.dataset.turn)));
  }
  pager.querySelector("input").addEventListener("change", (event) => turnTo(Number(event.target.value) - 1));
}
document.getElementById("help-button").addEventListener("click", keys["?"]);
document.getElementById("save").addEventListener("click", save);
show();
