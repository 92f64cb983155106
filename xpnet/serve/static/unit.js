// One number of a layer, worked out: the inputs and weights that it is made of, or the gradients of those weights.

import { fill, where } from "/static/grid.js";
import { byId, element, number } from "/static/page.js";

export function showUnit(shown) {
  const { unit, backward } = shown;
  byId("unit-title").textContent = title(shown);
  byId("unit-value").textContent = backward ? `Gradient ${number(unit.gradient)}` : number(unit.value);
  byId("unit-note").textContent = backward ? backwardIn(shown) : forwardIn(shown);
  byId("unit-maps").replaceChildren(...maps(shown));
  byId("unit-table").replaceChildren(...(backward ? [...sum(shown, unit.backward), ...slopes(unit)] : sum(shown, unit.forward)));
}

function title({ model, walk, at, place }) {
  if (at === walk.stations.length) return `The output for ${model.classes[place[2]]}`;
  const { shape } = walk.stations[at - 1];
  const listed = shape.length === 1 && place[0] === 0 && place[1] === 0;
  return where(place, listed ? [1, 1] : [2, 2]).replace(/^./, (letter) => letter.toUpperCase());
}

const many = (count) => count.toLocaleString("en");

function forwardIn({ walk, at, unit }) {
  const { kind } = walk.stations[at - 1];
  const { exact, n_terms: count, bias } = unit.forward;
  if (kind === "Residual") return "The sum of what its layers gave and what went around them.";
  if (!exact) return `${kind} is no weighted sum. Its slopes by the inputs that count most:`;
  if (count === 0) return unit.before === null ? "No input counts here." : `Its input is ${number(unit.before)}; it counts with 0.`;
  const inputs = count === 1 ? "One input" : `${many(count)} inputs, each`;
  return `${inputs} times its weight${bias ? ", plus the bias" : ""}.${count > 1 ? " The largest products:" : ""}`;
}

function backwardIn({ walk, at, unit }) {
  const { gradient, backward } = unit;
  if (gradient === 0) return "The loss does not change with this number.";
  const change = `If this number grew by 0.01, the loss would ${gradient > 0 ? "grow" : "shrink"} by about ${number(Math.abs(gradient) / 100)}. `;
  if (at === walk.stations.length) return `${change}The loss gives this gradient: the probability, for the target minus 1.`;
  if (!backward.exact) return change;
  const numbers = backward.n_terms === 1 ? "the one number" : `${many(backward.n_terms)} numbers`;
  return `${change}It is the gradient of ${numbers} that it goes into, times ${backward.n_terms === 1 ? "its weight" : "their weights"}:`;
}

function maps({ unit, backward }) {
  const figure = ({ numbers, shape, block }, name) => {
    const canvas = element("canvas", { ariaLabel: `${name} of this number` });
    const words = (value, place) => `${where(place.map((n, i) => (i ? n * block : n)), shape)}: ${number(value)}`;
    fill(canvas, numbers, { within: 170, most: 22, words });
    const part = numbers.length < shape[0] ? `, the first ${numbers.length} of ${shape[0]} maps` : "";
    return element("figure", {}, canvas, element("figcaption", { textContent: `${name}${part}` }));
  };
  const inputs = unit.inputs && unit.forward.n_terms > 1 ? [figure(unit.inputs, "Inputs")] : [];
  const weights = unit.weights ? [figure(unit.weights, "Weights")] : [];
  return backward ? (unit.weights ? [...weights, figure(unit.weights_gradient, "Gradient of the weights")] : []) : [...inputs, ...weights];
}

function table(titles, rows, sums) {
  const row = (cells, className = "") => {
    const made = element("tr", { className }, element("th", { scope: "row", textContent: cells[0] }));
    made.append(...cells.slice(1).map((text) => element("td", { textContent: text })));
    return made;
  };
  const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col", textContent: text })));
  const end = sums.map(([name, value, className]) => row([name, ...titles.slice(2).map(() => ""), value], className));
  return element(
    "table", { className: "numbers" },
    element("thead", {}, head), element("tbody", {}, ...rows.map((cells) => row(cells))), element("tfoot", {}, ...end),
  );
}

/** The terms, what all others come to, the bias, and their sum. */
function sum({ walk, backward, unit }, { terms, n_terms: count, rest, bias, exact }) {
  if (!terms.length || (backward && !exact)) return [];
  const several = new Set(terms.map(({ layer }) => layer)).size > 1;
  const named = ({ layer, place }) => {
    const station = layer < 0 ? { kind: "Image", shape: [0, 0] } : walk.stations[layer];
    const listed = station.shape.length === 1 && terms.every((term) => term.place[0] === 0 && term.place[1] === 0);
    const name = listed ? `number ${place[2]}` : `${station.shape.length === 2 ? "" : `map ${place[0]} `}(${place[1]}, ${place[2]})`;
    return several ? `${station.kind} ${station.path.replace("layers.", "")}: ${name}` : name;
  };
  const rows = terms.map((term) => [named(term), number(term.number), `× ${number(term.weight)}`, number(term.product)]);
  const sums = [];
  if (exact) {
    if (count > terms.length) sums.push([`${many(count - terms.length)} others`, number(rest)]);
    if (bias !== 0) sums.push(["bias", number(bias)]);
    sums.push(["sum", number(backward ? unit.gradient : unit.value), "total"]);
  }
  const at = rows.some(([name]) => name.endsWith(")")) ? " (row, column)" : "";
  const titles = backward ? [`goes into${at}`, "gradient", "weight", "product"] : [`input${at}`, "value", "weight", "product"];
  return [table(titles, rows, sums)];
}

function slopes({ steepest, weights }) {
  if (!steepest.length) return [];
  const rows = steepest.map(({ place, weight, gradient }) => [where(place, weights.shape), number(weight), number(gradient)]);
  const title = element("h3", { textContent: "Its weights with the largest gradients" });
  return [title, table(["weight", "value", "gradient"], rows, [])];
}
