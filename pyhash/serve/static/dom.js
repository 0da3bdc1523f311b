// Small helpers of all views. Names from the service are put in as text alone.

export const $ = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function many(count, thing) {
  return count.toLocaleString("en") + " " + thing + (count === 1 ? "" : "s");
}

export function inBytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) { count /= 1000; unit += 1; }
  return (unit && count < 9.95 ? count.toFixed(1) : Math.round(count)) + " " + units[unit];
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function folderOf(path) {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** Draw where a part lies: over an image of that size that is shown as object-fit: contain does. */
export function frameOver([width, height], [left, top, right, bottom]) {
  const make = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const svg = make("svg", {viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "frame"});
  const inside = `M${left} ${top}H${right}V${bottom}H${left}Z`;
  svg.append(make("path", {class: "shade", d: `M0 0H${width}V${height}H0Z${inside}`}),
    make("path", {class: "edge", d: inside}), make("path", {class: "edge", d: inside}));
  return svg;
}

/** Show an image or canvas of that size as large as the window allows, though no more than three times enlarged. */
export function fit(media, width, height) {
  media.style.width = `min(calc(100vw - 30px), calc((100vh - 180px) * ${width / height}), ${3 * width}px)`;
}

/** Say something to who does not see the page. */
export function say(text) {
  $("said").textContent = text;
}
