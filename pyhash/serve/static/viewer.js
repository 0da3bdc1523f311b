// One answer large, with the next and the one before.

import {large, show, thumbnail} from "./api.js";
import {$, element, fit, frameOver} from "./dom.js";

const dialog = $("viewer");

export function open(matches, place, more) {
  const img = element("img");
  img.addEventListener("load", () => fit(img, img.naturalWidth, img.naturalHeight));
  const sheet = element("div", {className: "sheet"}, img);
  const words = element("span", {className: "words"});
  const button = (text, label, act, className = "plain") => {
    const made = element("button", {className, textContent: text, title: label, "aria-label": label});
    made.addEventListener("click", act);
    return made;
  };
  const before = button("‹", "Image before", () => turn(-1)), after = button("›", "Next image", () => turn(1));
  const turn = (by) => {
    if (matches[place + by]) { place += by; fill(); }
  };
  const fill = () => {
    const {id, path = String(id), distance, similarity, part, size} = matches[place];
    img.alt = path;
    img.onerror = () => {  // its file is away: the thumbnail may be there
      img.onerror = null;
      show(img, thumbnail(id));
      words.textContent = `${path} · only the thumbnail is there now`;
    };
    show(img, large(id));
    sheet.replaceChildren(img, ...part?.box && size ? [frameOver(size, part.box)] : []);
    words.textContent = [path, similarity === undefined ? null : `similarity ${similarity.toFixed(3)}`,
      `distance ${distance}`].filter(Boolean).join(" · ");
    before.disabled = place === 0;
    after.disabled = place === matches.length - 1;
  };
  dialog.replaceChildren(sheet, element("div", {className: "foot"}, before, after, words,
    button("more like this", "More like this", () => { dialog.close(); more(matches[place].id); }, "strong"),
    button("close", "Close", () => dialog.close())));
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    else if (event.key === "ArrowRight") turn(1);
  };
  fill();
  dialog.showModal();
  dialog.onclose = () => {
    const tile = $("answers").children[place];
    tile?.querySelector(".image").focus({preventScroll: true});
  };
}
