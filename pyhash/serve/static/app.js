// The page: which view is shown, keys, what is under way and what failed.

import {Problem, ask} from "./api.js";
import {$, element, many} from "./dom.js";
import * as review from "./review.js";
import * as search from "./search.js";
import {readAddress} from "./state.js";

let view = null;
let busySince = 0;

const page = {
  busy(on) {
    clearTimeout(busySince);
    if (on) busySince = setTimeout(() => { $("busy").hidden = false; }, 150);  // a quick answer needs no bar
    else $("busy").hidden = true;
    $("answers").classList.toggle("stale", on);
  },
  fail(error, retry) {
    $("error").querySelector("p").textContent = error instanceof Problem ? error.message : `The page failed: ${error.message}`;
    const again = $("error").querySelector("button");
    again.hidden = !retry;
    again.onclick = () => { page.clear(); retry(); };
    $("error").hidden = false;
    if (!(error instanceof Problem)) console.error(error);
  },
  clear() {
    $("error").hidden = true;
  },
  visit(address, replace) {
    const whole = location.pathname + location.search + (address === "#" ? "" : address);
    if (replace) history.replaceState(null, "", whole);
    else if (whole !== location.pathname + location.search + location.hash) history.pushState(null, "", whole);
  },
};

function showView() {
  const state = readAddress(location.hash);
  view = state.view === "review" ? review : search;
  $("search").hidden = view !== search;
  $("review").hidden = view !== review;
  for (const [id, of] of [["to-search", search], ["to-review", review]]) {
    if (of === view) $(id).setAttribute("aria-current", "page");
    else $(id).removeAttribute("aria-current");
  }
  page.clear();
  page.busy(false);
  view.visit(state);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) return;
  if (event.key === "?") $("help").showModal();
  else if (!view?.keys || !Object.hasOwn(view.keys, event.key)) return;
  else if (view.keys[event.key](event) === false) return;
  event.preventDefault();
});
$("help-button").addEventListener("click", () => $("help").showModal());

async function ready() {
  for (;;) {
    try {
      return await (await ask("v1/info")).json();
    } catch (error) {
      if (error.status !== 503 || !error.wait) throw error;
      page.busy(true);
      $("facts").textContent = error.message;
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.wait));
    }
  }
}

async function begin() {
  page.busy(true);
  let info;
  try {
    info = await ready();
  } catch (error) {
    page.busy(false);
    page.fail(error, begin);
    return;
  }
  page.busy(false);
  if (info.kind !== "gallery") {
    $("facts").textContent = many(info.codes, "code");
    document.querySelector("nav").hidden = $("help-button").hidden = true;
    $("nothing").append(element("h2", {textContent: "There are no images to show here"}),
      element("p", {textContent: "This service searches an index, which holds codes alone. Programs ask it with codes " +
        "or ids; a page to search on is there when a folder of images is served:"}),
      element("pre", {textContent: "pyhash serve FOLDER"}));
    $("nothing").hidden = false;
    return;
  }
  $("facts").textContent = [info.folders.join(", "), many(info.images, "image"),
    info.waiting ? `${info.waiting.toLocaleString("en")} not indexed yet` : null].filter(Boolean).join(" · ");
  search.start(page, info);
  review.start(page);
  window.addEventListener("popstate", showView);
  showView();
}

begin();
