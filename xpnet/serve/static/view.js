// What a reading and its explanation look like on the page.

import { fill } from "/static/grid.js";
import { byId, element, number, percent, speak } from "/static/page.js";

export { speak };

export function showModel(model) {
  const [height, width] = model.image;
  byId("model").textContent = `${model.name}: ${model.parameters.toLocaleString("en")} parameters, on ${model.device}`;
  byId("size").textContent = `${width} × ${height}`;
  byId("bars").replaceChildren(
    ...model.classes.map((name) =>
      element(
        "tr", { role: "row" },
        element("th", { scope: "row", role: "rowheader" }, why(name)),
        element("div", { className: "track", ariaHidden: "true" }, element("i")),
        element("td", { role: "cell", textContent: "–" }),
      ),
    ),
  );
}

/** The digit before its bar: a button that asks why it is not the answer. */
const why = (name) => element("button", { type: "button", textContent: name, ariaLabel: `${name}: why not?`, disabled: true });

/** The large numeral and the two lines beside it. */
export function showVerdict(numeral, says, why = "") {
  byId("numeral").textContent = numeral;
  byId("numeral").parentElement.classList.toggle("none", !/\w/.test(numeral));
  byId("says").textContent = says;
  byId("why").textContent = why;
}

/** Bars and numbers; without probabilities, none. */
export function showBars(probabilities = []) {
  const best = Math.max(...probabilities);
  [...byId("bars").rows].forEach((row, i) => {
    const p = probabilities[i];
    row.classList.toggle("best", p === best);
    row.querySelector("i").style.width = `${100 * (p ?? 0)}%`;
    row.querySelector("button").disabled = p === undefined;
    row.title = p === undefined ? "" : number(p);
    row.lastElementChild.textContent = p === undefined ? "–" : percent(p);
  });
}

/** What was read, all of it, and how sure the model is of this one of the digits. */
export function showReading({ text, digits }, chosen) {
  const digit = digits[chosen];
  const several = digits.length > 1;
  const unsure = digit.reason.startsWith("unsure") ? digit.reason : `this may not be a digit: ${digit.reason}`;
  const why = digit.answer === null ? unsure : `${percent(digit.probability)} sure`;
  const says = several || digit.answer !== null ? `This is ${text}` : "Unsure";
  const place = several ? `Digit ${chosen + 1} of ${digits.length}, ${digit.answer ?? "?"}: ` : "";
  showVerdict(digit.answer ?? "?", says, `${place}${why}`);
  showBars(digit.probabilities);
}

/** Where the digits are, and a button for each if there are several. `choose(i)` is called for a button. */
export function showFound(reading, chosen, choose) {
  const { digits } = reading;
  byId("found").hidden = digits.length < 2;
  byId("found").replaceChildren(
    ...digits.map((digit, i) => {
      const label = digit.answer ?? "?";
      const name = `Digit ${i + 1} of ${digits.length}: ${digit.answer ?? "unsure"}`;
      return element("button", {
        type: "button", textContent: label, ariaLabel: name, ariaPressed: String(i === chosen), onclick: () => choose(i),
      });
    }),
  );
  byId("boxes").classList.toggle("single", digits.length < 2 && byId("photo").hidden);
  byId("boxes").replaceChildren(...digits.map((digit, i) => frame(digit.box, i === chosen)));
}

/** A frame around a digit. A photo fills the square stage in one direction only. */
function frame([left, top, right, bottom], chosen) {
  const image = byId("photo-image");
  const shape = byId("photo").hidden || !image.naturalWidth ? 1 : image.naturalWidth / image.naturalHeight;
  const [width, height] = shape > 1 ? [1, 1 / shape] : [shape, 1];
  const place = (part, extent) => 100 * ((1 - extent) / 2 + part * extent);
  const made = element("i", { className: chosen ? "chosen" : "" });
  made.style.left = `${place(left, width) - 1}%`;
  made.style.right = `${100 - place(right, width) - 1}%`;
  made.style.top = `${place(top, height) - 1}%`;
  made.style.bottom = `${100 - place(bottom, height) - 1}%`;
  return made;
}

/** `instead`: the answer, where the explanation is of why it is not another class; else null. */
export function showExplanation(digit, explanation, instead = null) {
  const cell = 8;
  const at = ([, row, column]) => `row ${row}, column ${column}`;
  const told = (what) => (value, place) => `${at(place)}: ${what} ${number(value)}`;
  const ink = (value, place) => `${at(place)}: ${value} of 255`;
  fill(byId("seen"), [digit.pixels], { cell, grey: true, words: ink });
  fill(byId("contribution"), [explanation.contribution], { cell, words: told("contribution") });
  fill(byId("gradient"), [explanation.gradient], { cell, words: told("gradient") });
  byId("seen").ariaLabel = "The digit as the network sees it";
  byId("contribution").ariaLabel = described(explanation);
  byId("inside-title").textContent = instead === null ? "Why" : `Why not ${explanation.answer}?`;
  byId("reason").hidden = instead === null;
  if (instead !== null) byId("reason").textContent = reason(explanation, instead);
  for (const name of document.querySelectorAll(".chosen:not(.boxes i)")) name.textContent = explanation.answer;
  [...byId("bars").rows].forEach((row) => {
    const button = row.querySelector("button");
    button.ariaPressed = String(instead !== null && button.textContent === explanation.answer);
  });
  byId("gradient").ariaLabel = `Gradient of the answer ${explanation.answer} with respect to each pixel`;
  byId("layer-list").replaceChildren(...explanation.layers.map(layer));
  byId("inside").hidden = byId("layers").hidden = false;
}

/** Where in the image the number is that is the largest (sign 1) or the lowest (-1), and how large it is. */
function extreme(rows, sign) {
  const [all, width] = [rows.flat(), rows[0].length];
  const i = all.reduce((best, value, j) => (sign * value > sign * all[best] ? j : best), 0);
  const [y, x] = [Math.floor(i / width) / rows.length, (i % width) / width];
  const name = (part, names) => names[Math.min(Math.floor(3 * part), 2)];
  const place = `${name(y, ["top", "", "bottom"])} ${name(x, ["left", "", "right"])}`.trim() || "centre";
  return { place, value: all[i] };
}

/** In words, for those who do not see it: how much of the ink was for and against, and where most of it is. */
function described({ answer, contribution }) {
  const sum = (sign) => contribution.flat().reduce((total, value) => total + Math.max(sign * value, 0), 0);
  const percentFor = Math.round((100 * sum(1)) / Math.max(sum(1) + sum(-1), 1e-9));
  return `${percentFor} % of the effect of the ink is for ${answer}, strongest at the ${extreme(contribution, 1).place}; ` +
    `${100 - percentFor} % is against, strongest at the ${extreme(contribution, -1).place}`;
}

/** One sentence: why the answer is not this other class. */
function reason({ answer, margin, contribution }, instead) {
  const [best, worst] = [extreme(contribution, 1), extreme(contribution, -1)];
  const short = (value) => value.toFixed(2).replace("-", "−");
  const against = worst.place === best.place ? "other ink there" : `that at the ${worst.place}`;
  return `The output for ${answer} is ${short(Math.abs(margin))} ${margin > 0 ? "above" : "below"} that for ${instead}. ` +
    `The ink at the ${best.place} speaks most for ${answer} (+${short(best.value)}), ` +
    `${against} most against it (${short(worst.value)}).`;
}

/** A layer of the list. The first of another branch is given what the first branch is, not what that one made of it. */
function layer({ path, kind, shape, values }, i, layers) {
  const maps = values.numbers;
  const canvas = element("canvas");
  fill(canvas, maps, { within: 140 });
  const all = maps.flat(2);
  const count = shape.reduce((product, n) => product * n, 1);
  const some = all.length < count ? `${all.length} of ` : "";
  const active = all.filter((value) => value > 0).length;
  const [low, high] = [Math.min(...all), Math.max(...all)].map((value) => value.toFixed(1));
  canvas.ariaLabel = `${kind}: ${some}${count} numbers from ${low} to ${high}, ${active} of them positive`;
  const caption = element("figcaption", {}, element("b", { textContent: kind }));
  caption.append(element("span", { textContent: `${shape.join(" × ")}, ${path}` }));
  const branch = (of) => of.replace(/(.*branches\.\d+).*/, "$1");
  const apart = /branches\.[1-9]\d*(?!.*branches)/.test(path) && branch(layers[i - 1].path) !== branch(path);
  return element("li", { className: apart ? "apart" : "" }, element("figure", {}, canvas, caption));
}

/** Nothing to explain. */
export function hideExplanation() {
  byId("inside").hidden = byId("layers").hidden = true;
}
