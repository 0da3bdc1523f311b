// Two images of a group on one canvas: one, the other, and where they differ.

import {ask, large} from "./api.js";
import {$, element, fit, nameOf} from "./dom.js";

const dialog = $("comparer");
const AMPLIFIED = 4;  // a difference that an eye would miss is seen

export async function compare(best, other) {
  const [one, two] = await Promise.all([best, other].map(async ({id}) =>
    createImageBitmap(await (await ask(large(id))).blob())));
  const canvas = element("canvas", {width: one.width, height: one.height, role: "img"});
  fit(canvas, one.width, one.height);
  const words = element("span", {className: "words", role: "status"});
  const button = (text, key, act) => {
    const made = element("button", {className: "plain", textContent: text, title: key});
    made.addEventListener("click", act);
    return made;
  };
  let shown = "one";
  const draw = () => {
    const context = canvas.getContext("2d", {willReadFrequently: true});
    const pixels = (bitmap) => {  // both at the size of the best
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      return context.getImageData(0, 0, canvas.width, canvas.height);
    };
    if (shown === "difference") {
      const a = pixels(one), b = pixels(two);
      for (let n = 0; n < a.data.length; n += 1) {
        if (n % 4 !== 3) a.data[n] = AMPLIFIED * Math.abs(a.data[n] - b.data[n]);
      }
      context.putImageData(a, 0, 0);
    } else {
      pixels(shown === "one" ? one : two);
    }
    const names = {one: `the best: ${nameOf(best.path)}`, two: nameOf(other.path),
      difference: `what differs, ${AMPLIFIED} times as strong; black where nothing does`};
    words.textContent = names[shown];
    canvas.setAttribute("aria-label", names[shown]);
    swap.setAttribute("aria-pressed", String(shown === "two"));
    differ.setAttribute("aria-pressed", String(shown === "difference"));
  };
  const to = (next) => { shown = next; draw(); };
  const swap = button("Swap", "space", () => to(shown === "two" ? "one" : "two"));
  const differ = button("Difference", "d", () => to(shown === "difference" ? "one" : "difference"));
  const close = button("Close", "Escape", () => dialog.close());
  dialog.replaceChildren(element("div", {className: "sheet"}, canvas),
    element("div", {className: "foot"}, words, swap, differ, close));
  dialog.onkeydown = (event) => {
    if (event.key === " ") swap.click();
    else if (event.key === "d") differ.click();
    else return;
    event.preventDefault();
  };
  draw();
  dialog.showModal();
}
