// The search view: what is asked, asking, and what came.

import {Problem, ask, post} from "./api.js";
import {$, folderOf, many, say} from "./dom.js";
import {choosePart} from "./cropper.js";
import {asQueries, contentOf, taken} from "./pixels.js";
import * as query from "./query.js";
import {START, address, byFile, byId, sameExamples, uploads} from "./state.js";
import * as tiles from "./tiles.js";
import * as viewer from "./viewer.js";

const FRESH = 60_000;  // milliseconds, in which an answer is shown again without asking
const answers = new Map();  // address -> {when, matches}
const folders = new Set();
const sizes = new Map();  // id -> size of an image of the gallery, a part of which is looked for

let state = START;  // what was asked
let draft = {like: [], not: []};  // what was marked since
let matches = [];
let asking = null;  // the request under way
let page = null;  // what the views share: busy, fail, clear, visit

export function start(shared, info) {
  page = shared;
  $("kind").hidden = !("coarse" in info.levels && "fine" in info.levels);
  for (const folder of info.folders.length > 1 ? info.folders : []) folders.add(folder);
  query.start({take, remove, part, again, change, fresh: () => go({like: [], not: []}),
    refuse: (text) => page.fail(new Problem(0, text))});
  ask("v1/sample?k=18").then((response) => response.json()).then(({images}) => {
    query.offer(images, more);
    redraw();
  }, () => {});  // it is an offer alone
  tiles.start({more, mark, open: (place) => viewer.open(matches, place, more)});
}

/** Show what an address says. */
export async function visit(next) {
  state = next;
  draft = {like: [...state.like], not: [...state.not]};
  redraw();
  page.clear();
  document.title = state.like.length ? "Answers · pyhash" : "Search · pyhash";
  if (next.lost) {
    page.fail(new Problem(0, "An image that was sent is not kept here any more: drop it again."));
  }
  asking?.abort();
  asking = null;
  if (!state.like.length) { reveal([]); page.busy(false); return; }
  const at = address(state);
  const known = answers.get(at);
  if (known && Date.now() - known.when < FRESH) { page.busy(false); reveal(known.matches, known.took); return; }
  asking = new AbortController();
  const {signal} = asking;
  page.busy(true);
  try {
    await Promise.all([...state.like, ...state.not].map(measure));
    const answer = await post("v1/search", await body(), signal);
    if (signal.aborted) return;
    const [{matches: found}] = answer.results;
    answers.set(at, {when: Date.now(), matches: found, took: answer.took_ms});
    if (answers.size > 50) answers.delete(answers.keys().next().value);
    redraw();
    reveal(found, answer.took_ms);
  } catch (error) {
    if (error.name !== "AbortError" && !signal.aborted) page.fail(error, () => visit(state));
  }
  if (!signal.aborted) page.busy(false);
}

async function measure({id, file, crop}) {
  if (!crop || file || sizes.has(id)) return;
  const bitmap = await createImageBitmap(await contentOf({id}));
  sizes.set(id, [bitmap.width, bitmap.height]);
}

async function body() {
  const {queries, without, crop} = await asQueries(state.like, state.not);
  const asked = {queries, k: state.k};
  if (queries.length > 1 || without.length) asked.together = true;
  if (without.length) asked.without = without;
  if (crop) asked.crop = crop;
  if (!$("kind").hidden && state.t !== START.t) asked.weights = sharesOf(state.t);
  if (state.folder) asked.in = [state.folder];
  if (state.distinct) asked.distinct = true;
  return asked;
}

/** Shares of the levels, in whole numbers: codes alone are weighted by no others. */
function sharesOf(t) {
  const divisor = (a, b) => b ? divisor(b, a % b) : a;
  const fine = Math.round(100 * t), by = divisor(100 - fine, fine);
  return {coarse: (100 - fine) / by, fine: fine / by};
}

function go(next, replace = false) {
  const to = {...state, ...next, lost: false};
  page.visit(address(to), replace);
  visit(to);
}

function redraw() {
  query.render(state, draft, !sameExamples(state, draft), sizes);
  tiles.showMarks(sideOf);
}

function reveal(found, took) {
  matches = found;
  tiles.render(matches);
  tiles.showMarks(sideOf);
  for (const {path = ""} of matches) {
    for (let folder = folderOf(path); folder; folder = folderOf(folder)) folders.add(folder);
  }
  $("folders").replaceChildren(...[...folders].sort().map((folder) => new Option(folder, folder)));
  const title = state.like.length ? many(matches.length, "answer") : "";
  $("answers-title").textContent = title;
  $("answers-title").title = took === undefined ? "" : `in ${Math.round(took)} ms`;
  say(title);
}

// What can be done

async function take(files, adding) {
  page.clear();
  const made = [];
  for (const file of files) {
    uploads.push(await taken(file));
    made.push(byFile(uploads.length));
  }
  go(adding ? {like: [...draft.like, ...made], not: draft.not} : {like: made, not: []});
  window.scrollTo(0, 0);
}

export function more(id) {
  go({like: [byId(id)], not: []});
  window.scrollTo(0, 0);
}

function sideOf(id) {
  return ["like", "not"].find((side) => draft[side].some((example) => example.id === id));
}

export function mark(id, side) {
  const was = sideOf(id);
  for (const name of ["like", "not"]) draft[name] = draft[name].filter((example) => example.id !== id);
  if (was !== side) draft[side].push(byId(id));
  redraw();
  say(was === side ? "Not marked" : side === "like" ? "Wanted" : "Unwanted");
}

export function again() {
  if (draft.like.length && !sameExamples(state, draft)) { go({...draft}); window.scrollTo(0, 0); }
}

function remove(side, place) {
  const left = {...draft, [side]: draft[side].filter((_, other) => other !== place)};
  go(left.like.length ? left : {like: [], not: []});
}

async function part(side, place) {
  const example = draft[side][place];
  try {
    const crop = await choosePart(example);
    if (crop === undefined) return;
    const changed = {...example, crop};
    go({...draft, [side]: draft[side].map((other, n) => n === place ? changed : other)});
  } catch (error) {
    page.fail(error instanceof Problem ? error : new Problem(0, "This image cannot be shown here."));
  }
}

function change(options) {
  go(options, true);
}

export const keys = {
  "/": query.pick,
  p: query.pick,
  s: again,
  c: () => { if (draft.like.length) part("like", 0); },
  o: () => onTile((tile) => viewer.open(matches, Number(tile.dataset.place), more)),
  "+": () => onTile((tile) => mark(Number(tile.dataset.id), "like")),
  "=": () => onTile((tile) => mark(Number(tile.dataset.id), "like")),  // + without Shift
  "-": () => onTile((tile) => mark(Number(tile.dataset.id), "not")),
  ArrowLeft: () => tiles.step("ArrowLeft"),
  ArrowRight: () => tiles.step("ArrowRight"),
  ArrowUp: () => tiles.step("ArrowUp"),
  ArrowDown: () => tiles.step("ArrowDown"),
};

function onTile(act) {
  const tile = tiles.focused();
  if (tile) act(tile);
  return Boolean(tile);
}
