// Small images in a row: the weights of units, and digits that are read wrongly.

import * as heat from "/static/heat.js";

const byId = (id) => document.getElementById(id);

/** As many list items as there are things, each with a canvas and a caption; those that are there are used again. */
function tiles(list, count) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) {
    const item = document.createElement("li");
    item.append(document.createElement("canvas"), document.createElement("span"));
    list.append(item);
  }
  return [...list.children].map((item) => [item.firstElementChild, item.lastElementChild]);
}

/** The weights of the first layer, all on one scale. */
export function showWeights({ weights }, { width, depth }) {
  const largest = Math.max(...weights.map(heat.peak));
  tiles(byId("weights"), weights.length).forEach(([canvas, caption], i) => {
    heat.signed(canvas, weights[i], 6, largest);
    caption.textContent = depth ? "" : i;
    canvas.ariaHidden = "true";
  });
  const units = depth ? width : weights.length;
  const some = weights.length < units ? `The first ${weights.length} of its ${units} units` : `Its ${units} ${units === 1 ? "unit" : "units"}`;
  const what = depth ? "one image for each" : "one for each digit: there is no hidden layer";
  byId("weights-are").textContent = `${some}, ${what}. Ink on orange pixels excites a unit, on blue ones it inhibits it.`;
  byId("lowest").textContent = `−${largest.toPrecision(2)}`;
  byId("highest").textContent = `+${largest.toPrecision(2)}`;
}

/** The held-out digits that are read wrongly, each with what it is taken for. */
export function showMisread({ wrong, misread }, all) {
  tiles(byId("misread"), misread.length).forEach(([canvas, caption], i) => {
    const { digit, read, probability, pixels } = misread[i];
    heat.grey(canvas, pixels, 6);
    canvas.ariaHidden = "true";
    const sure = probability === null ? "" : `, ${Math.round(100 * probability)} %`;
    caption.textContent = `${digit} as ${read}${sure}`;
  });
  const more = wrong > misread.length ? ` Here are ${misread.length} of them.` : "";
  byId("wrong-are").textContent = wrong ? `${wrong} of the ${all} held-out digits.${more}` : `None of the ${all} held-out digits.`;
}
