// Small images: the weights of units side by side, and digits that are read wrongly.

import * as heat from "/static/heat.js";
import { byId } from "/static/page.js";

/** The weights of the first layer on one canvas, and on one scale. */
export function showWeights({ weights }, { width, depth }) {
  const largest = Math.max(...weights.map(heat.peak));
  heat.signed(byId("weights"), sideBySide(weights), 5, largest);
  const units = depth ? width : weights.length;
  const some = weights.length < units ? `The first ${weights.length} of its ${units} units` : `Its ${units === 1 ? "one unit" : `${units} units`}`;
  const what = depth ? (units === 1 ? "as an image" : "an image for each") : "an image for each digit, from 0 to 9: there is no hidden layer";
  byId("weights-are").textContent = `${some}, ${what}. Ink on orange pixels excites a unit, on blue ones it inhibits it.`;
  byId("weights").ariaLabel = `Weights of ${weights.length} units, the largest ${largest.toPrecision(2)}`;
  byId("lowest").textContent = `−${largest.toPrecision(2)}`;
  byId("highest").textContent = `+${largest.toPrecision(2)}`;
}

/** Images of one size as one, with nothing (null) between them. */
function sideBySide(images) {
  const [height, width] = [images[0].length, images[0][0].length];
  const across = images.length > 10 ? 8 : 5;
  const down = Math.ceil(images.length / across);
  const rows = Array.from({ length: down * (height + 1) - 1 }, () => new Array(across * (width + 1) - 1).fill(null));
  images.forEach((image, i) =>
    image.forEach((row, y) => rows[Math.floor(i / across) * (height + 1) + y].splice((i % across) * (width + 1), width, ...row)),
  );
  return rows;
}

/** The held-out digits that are read wrongly, each with what it is taken for. */
export function showMisread({ held_out: all, wrong, misread }) {
  tiles(byId("misread"), misread.length).forEach(([canvas, caption], i) => {
    const { digit, read, probability, pixels } = misread[i];
    heat.grey(canvas, pixels, 6);
    const sure = probability === null ? "" : `, ${Math.round(100 * probability)} %`;
    caption.textContent = `${digit} as ${read}${sure}`;
  });
  const more = wrong > misread.length ? ` Here are ${misread.length} of them.` : "";
  byId("wrong-are").textContent = wrong ? `${wrong} of the ${all} held-out digits.${more}` : `None of the ${all} held-out digits.`;
}

/** As many list items as there are things, each with a canvas and a caption; those that are there are used again. */
function tiles(list, count) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) {
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("canvas"), { ariaHidden: "true" }), document.createElement("span"));
    list.append(item);
  }
  return [...list.children].map((item) => [item.firstElementChild, item.lastElementChild]);
}
