// What a reading and its explanation look like on the page.

import * as heat from "/static/heat.js";

const byId = (id) => document.getElementById(id);
const percent = (p) => (p > 0.9995 ? "> 99.9 %" : p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function showModel(model) {
  const [height, width] = model.image;
  byId("model").textContent = `${model.name}: ${model.parameters.toLocaleString("en")} parameters, on ${model.device}`;
  byId("size").textContent = `${width} × ${height}`;
  byId("bars").replaceChildren(
    ...model.classes.map((name) =>
      element(
        "tr", { role: "row" },
        element("th", { scope: "row", role: "rowheader", textContent: name }),
        element("div", { className: "track", ariaHidden: "true" }, element("i")),
        element("td", { role: "cell", textContent: "–" }),
      ),
    ),
  );
}

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
    row.lastElementChild.textContent = p === undefined ? "–" : percent(p);
  });
}

/** What was read, all of it, and how sure the model is of this one of the digits. */
export function showReading({ text, digits }, chosen, model) {
  const digit = digits[chosen];
  const several = digits.length > 1;
  const likeliest = model.classes[digit.probabilities.indexOf(Math.max(...digit.probabilities))];
  const unsure = digit.reason.startsWith("unsure") ? digit.reason : `this may not be a digit: ${digit.reason}`;
  const why = digit.answer === null ? unsure : `${percent(digit.probability)} sure`;
  const says = several || digit.answer !== null ? `This is ${text}` : "Unsure";
  const place = several ? `Digit ${chosen + 1} of ${digits.length}, ${digit.answer ?? "?"}: ` : "";
  showVerdict(digit.answer ?? "?", says, `${place}${why}`);
  showBars(digit.probabilities);
  for (const name of document.querySelectorAll(".chosen:not(.boxes i)")) name.textContent = likeliest;
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

export function showExplanation(digit, explanation) {
  const cell = 8;
  heat.grey(byId("seen"), digit.pixels, cell);
  heat.signed(byId("contribution"), explanation.contribution, cell);
  heat.signed(byId("gradient"), explanation.gradient, cell);
  byId("seen").ariaLabel = "The digit as the network sees it";
  byId("contribution").ariaLabel = described(explanation);
  byId("gradient").ariaLabel = `Gradient of the answer ${explanation.answer} with respect to each pixel`;
  byId("layer-list").replaceChildren(...explanation.layers.map(layer));
  byId("inside").hidden = byId("layers").hidden = false;
}

/** In words, for those who do not see it: how much of the ink was for and against, and where most of it is. */
function described({ answer, contribution }) {
  const all = contribution.flat();
  const width = contribution[0].length;
  const sum = (sign) => all.reduce((total, value) => total + Math.max(sign * value, 0), 0);
  const where = (sign) => {
    const i = all.reduce((best, value, j) => (sign * value > sign * all[best] ? j : best), 0);
    const [y, x] = [Math.floor(i / width) / contribution.length, (i % width) / width];
    const name = (part, names) => names[Math.min(Math.floor(3 * part), 2)];
    return `${name(y, ["top", "middle", "bottom"])} ${name(x, ["left", "centre", "right"])}`;
  };
  const percentFor = Math.round((100 * sum(1)) / Math.max(sum(1) + sum(-1), 1e-9));
  return `${percentFor} % of the effect of the ink is for ${answer}, strongest at the ${where(1)}; ` +
    `${100 - percentFor} % is against, strongest at the ${where(-1)}`;
}

function layer({ path, kind, shape, values }) {
  const rows = heat.arranged(values, shape);
  const cell = Math.max(Math.min(Math.floor(140 / rows[0].length), 14), 2);
  const canvas = element("canvas", { role: "img" });
  heat.signed(canvas, rows, cell);
  canvas.style.width = `${rows[0].length * cell}px`;
  const active = values.filter((value) => value > 0).length;
  const [low, high] = [Math.min(...values), Math.max(...values)].map((value) => value.toFixed(1));
  canvas.ariaLabel = `${kind}: ${values.length} numbers from ${low} to ${high}, ${active} of them positive`;
  const caption = element("figcaption", {}, element("b", { textContent: kind }));
  caption.append(element("span", { textContent: `${shape.join(" × ")}, ${path}` }));
  return element("li", {}, element("figure", {}, canvas, caption));
}

/** Nothing to explain. */
export function hideExplanation() {
  byId("inside").hidden = byId("layers").hidden = true;
}

let speaking;

/** Say it to a screen reader, once it has not changed for a moment. */
export function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => (byId("spoken").textContent = text), 500);
}
