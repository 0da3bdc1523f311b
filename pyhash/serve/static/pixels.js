// Images that were dropped, pasted or picked, and parts of images, as they are sent.

import {Problem, ask, large} from "./api.js";

const SENT_AS_IT_IS = 8_000_000;  // bytes; a larger file is made smaller before it travels
const LONGEST = 2048;

/** Take a file: {blob, name, url, width, height}; without a size where this browser cannot show it. */
export async function taken(file) {
  let blob = file;
  let bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap && file.size > SENT_AS_IT_IS) {
    const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
    blob = await drawn(bitmap, [0, 0, bitmap.width, bitmap.height], scale, "image/jpeg");
    bitmap = await createImageBitmap(blob);
  }
  return {blob, name: file.name || "pasted image", url: URL.createObjectURL(blob),
    width: bitmap?.width, height: bitmap?.height};
}

/** The examples of both sides as a request has them, and the crop beside them. */
export async function asQueries(like, not) {
  const sent = [...like, ...not].filter((example) => example.file || example.crop);
  const crop = sent.length === 1 ? sent[0].crop : null;  // it holds for all images of a request
  const query = async (example) => {
    if (!example.file && !example.crop) return {id: example.id};
    let blob = await contentOf(example);
    if (example.crop && !crop) {
      blob = await drawn(await createImageBitmap(blob), example.crop, 1, "image/png");
    }
    return {image: await inBase64(blob)};
  };
  return {queries: await Promise.all(like.map(query)), without: await Promise.all(not.map(query)), crop};
}

const fetched = new Map();  // id -> image, of which a part is looked for

export function contentOf({file, id}) {
  if (file) return file.blob;
  if (!fetched.has(id)) {
    const coming = ask(large(id)).then((response) => response.blob());
    fetched.set(id, coming);
    coming.catch(() => fetched.delete(id));
  }
  return fetched.get(id);
}

async function drawn(bitmap, [left, top, right, bottom], scale, type) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round((right - left) * scale));
  canvas.height = Math.max(1, Math.round((bottom - top) * scale));
  canvas.getContext("2d").drawImage(bitmap, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  if (!blob) throw new Problem(0, "This image is too large for this browser.");
  return blob;
}

function inBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Problem(0, "The file cannot be read any more: choose it again."));
    reader.readAsDataURL(blob);
  });
}
