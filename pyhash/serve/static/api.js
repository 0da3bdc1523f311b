// Asks the service. All addresses are relative to the page, so that it works behind a prefix.

const KEPT = "pyhash token";
const SHOWN_MOST = 600;
const shown = new Map();  // address -> blob: address, where images need the token
let token = null;
let prompt = null;  // that is open now

try { token = sessionStorage.getItem(KEPT); } catch { /* a browser that keeps nothing */ }

/** What the service, or the way to it, found wrong. */
export class Problem extends Error {
  constructor(status, detail, wait = 0) {
    super(detail);
    this.status = status;
    this.wait = wait;  // seconds, after which it is worth to ask again
  }
}

/** Ask for something; the response where it is as it should be, else a Problem. */
export async function ask(address, options = {}) {
  for (;;) {
    const headers = {...options.headers};
    const sent = token;
    if (sent) headers.Authorization = "Bearer " + sent;
    let response;
    try {
      response = await fetch(address, {...options, headers});
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The service does not answer: it may have been ended, or be out of reach.");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (sent === token) await tokenFromUser(Boolean(sent));
      continue;
    }
    const content = await response.json().catch(() => ({}));
    throw new Problem(response.status, content.detail || `${response.status} ${response.statusText}`,
      Number(response.headers.get("Retry-After")) || 0);
  }
}

export async function post(address, body, signal) {
  const options = {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal};
  return (await ask(address, options)).json();
}

function tokenFromUser(refused) {
  prompt ??= new Promise((resolve, reject) => {
    const dialog = document.getElementById("token");
    const field = dialog.querySelector("input");
    dialog.querySelector("h2").textContent = refused ? "That was not the token" : "This service asks for a token";
    field.value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      prompt = null;
      if (!field.value) { reject(new Problem(401, "This service needs the token that it was started with.")); return; }
      token = field.value;
      try { sessionStorage.setItem(KEPT, token); } catch { /* see above */ }
      resolve();
    }, {once: true});
    dialog.addEventListener("cancel", () => { field.value = ""; }, {once: true});
    dialog.showModal();
  });
  return prompt;
}

export const thumbnail = (id) => `v1/thumbnails/${id}`;
export const large = (id) => `v1/images/${id}?size=1600`;

/** Show an image of the service: with a token it has to be fetched, for an address cannot bring one. */
export async function show(img, address) {
  img.dataset.address = address;
  if (!token) { img.src = address; return; }
  if (!shown.has(address)) {
    shown.set(address, ask(address).then((response) => response.blob()).then((blob) => URL.createObjectURL(blob)));
    while (shown.size > SHOWN_MOST) {
      const [[oldest, url]] = shown;
      shown.delete(oldest);
      url.then((address) => setTimeout(() => URL.revokeObjectURL(address), 60000), () => {});
    }
  }
  try {
    const url = await shown.get(address);
    if (img.dataset.address === address) img.src = url;  // not shown another meanwhile
  } catch {
    shown.delete(address);
    img.dispatchEvent(new Event("error"));
  }
}
