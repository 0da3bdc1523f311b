// Choose a part of an image with the mouse, a finger or the keyboard.

import {$, element, fit} from "./dom.js";
import {contentOf} from "./pixels.js";

const dialog = $("cropper");
const LEAST = 8;  // pixels

/** Ask for a part of an example: edges in its pixels, null for the whole, undefined where nothing was chosen. */
export async function choosePart(example) {
  const url = URL.createObjectURL(await contentOf(example));
  const img = element("img", {alt: "The image that is searched for", draggable: false, src: url});
  try {
    await img.decode();
    return await new Promise((resolve) => ask(img, example.crop, resolve));
  } finally {
    URL.revokeObjectURL(url);
  }
}

function ask(img, crop, resolve) {
  const width = img.naturalWidth, height = img.naturalHeight;
  fit(img, width, height);
  let box = crop ? [...crop] : null;
  let chosen;
  const frame = element("div", {className: "part", tabIndex: 0, role: "group",
    "aria-label": "Part of the image: arrows move it, with Shift they change its size"});
  const sheet = element("div", {className: "sheet picking"}, img, frame);
  const words = element("span", {className: "words", role: "status"});
  const take = element("button", {className: "strong", textContent: "Search for this part"});
  const whole = element("button", {className: "plain", textContent: "Whole image"});
  const close = element("button", {className: "plain", textContent: "Cancel"});

  const draw = () => {
    const [left, top, right, bottom] = box ?? [0, 0, width, height];
    frame.style.left = 100 * left / width + "%";
    frame.style.top = 100 * top / height + "%";
    frame.style.width = 100 * (right - left) / width + "%";
    frame.style.height = 100 * (bottom - top) / height + "%";
    take.disabled = !box || right - left < LEAST || bottom - top < LEAST;
    words.textContent = box ? `${right - left} × ${bottom - top} of ${width} × ${height}` : "Drag over what you look for";
  };
  const at = (event) => {
    const {left, top, width: w, height: h} = img.getBoundingClientRect();
    return [within((event.clientX - left) / w * width, width), within((event.clientY - top) / h * height, height)];
  };
  sheet.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    event.preventDefault();
    sheet.setPointerCapture(event.pointerId);
    const [x0, y0] = at(event);
    sheet.onpointermove = (moved) => {
      const [x, y] = at(moved);
      box = [Math.min(x0, x), Math.min(y0, y), Math.max(x0, x), Math.max(y0, y)];
      draw();
    };
    sheet.onpointerup = sheet.onpointercancel = () => {
      sheet.onpointermove = null;
      if (box && take.disabled) { box = null; draw(); }
      else if (box) take.focus();
    };
  });
  frame.addEventListener("keydown", (event) => {
    const by = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!by) return;
    event.preventDefault();
    box ??= [width * 0.25, height * 0.25, width * 0.75, height * 0.75].map(Math.round);
    const dx = Math.round(by[0] * width / 50), dy = Math.round(by[1] * height / 50);
    const [left, top, right, bottom] = box;
    const start = event.shiftKey ? [left, top]
      : [Math.min(Math.max(0, left + dx), width - (right - left)), Math.min(Math.max(0, top + dy), height - (bottom - top))];
    const end = event.shiftKey
      ? [Math.max(left + LEAST, within(right + dx, width)), Math.max(top + LEAST, within(bottom + dy, height))]
      : [start[0] + right - left, start[1] + bottom - top];
    box = [...start, ...end];
    draw();
  });
  take.addEventListener("click", () => { chosen = box; dialog.close(); });
  whole.addEventListener("click", () => { chosen = null; dialog.close(); });
  close.addEventListener("click", () => dialog.close());
  dialog.onclose = () => resolve(chosen);
  dialog.replaceChildren(sheet, element("div", {className: "foot"}, words, take, whole, close));
  draw();
  dialog.showModal();
  frame.focus();
}

function within(value, most) {
  return Math.round(Math.min(Math.max(0, value), most));
}
