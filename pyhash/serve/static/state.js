// What is looked at, as the address has it (#id=17&not=20&t=0.8): so Back and bookmarks work. An image that was sent
// cannot be in an address: there it is file=1, and is found as long as this tab is open.

export const uploads = [];  // {blob, name, url, width, height}; file=1 is the first

export const START = Object.freeze({like: [], not: [], t: 0.5, k: 24, folder: "", distinct: false});

/** An example: an image of the gallery, or one that was sent, and which part of it. */
export function byId(id, crop = null) {
  return {key: String(id), id, crop};
}

export function byFile(number, crop = null) {
  return {key: "f" + number, file: uploads[number - 1], crop};
}

export function sameExamples(one, other) {
  const text = (state) => JSON.stringify(["like", "not"].map((side) => state[side].map(({key, crop}) => [key, crop])));
  return text(one) === text(other);
}

export function readAddress(hash) {
  const state = {...START, view: "search", like: [], not: [], lost: false};
  const text = hash.replace(/^#/, "");
  const review = /^review(?:\/(duplicates|similar)\/(\d{1,6}))?$/.exec(text);
  if (review) return {view: "review", level: review[1] ?? "duplicates", page: Math.max(1, Number(review[2] ?? 1))};
  for (const [name, value] of new URLSearchParams(text)) {
    const side = name.startsWith("not") ? "not" : "like";
    if (/^(not-?)?(id|file)?$/.test(name) && name) {
      const found = /^(\d{1,18})(?:@(\d+),(\d+),(\d+),(\d+))?$/.exec(value);
      if (!found) continue;
      const crop = found[2] === undefined ? null : found.slice(2, 6).map(Number);
      const example = name.endsWith("file") ? byFile(Number(found[1]), crop) : byId(Number(found[1]), crop);
      if (name.endsWith("file") && !example.file) state.lost = true;
      else state[side].push(example);
    } else if (name === "t" && value >= 0 && value <= 1) state.t = Number(value);
    else if (name === "k" && value >= 1 && value <= 1000) state.k = Math.round(value);
    else if (name === "in") state.folder = value;
    else if (name === "distinct") state.distinct = value === "1";
  }
  return state;
}

export function address(state) {
  const parts = [];
  for (const [side, prefix] of [["like", ""], ["not", "not-"]]) {
    for (const {key, id, crop} of state[side]) {
      parts.push(prefix + (id === undefined ? "file=" + key.slice(1) : "id=" + id) + (crop ? "@" + crop.join(",") : ""));
    }
  }
  if (state.t !== START.t) parts.push("t=" + state.t);
  if (state.k !== START.k) parts.push("k=" + state.k);
  if (state.folder) parts.push("in=" + encodeURIComponent(state.folder));
  if (state.distinct) parts.push("distinct=1");
  return "#" + parts.join("&");
}
