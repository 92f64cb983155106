// One number of a layer, worked out: the inputs and weights that it is made of, or the gradients of those weights.

import { fill, where } from "/static/grid.js";
import { byId, element, givesProbabilities, number, table } from "/static/page.js";

export function showUnit(shown) {
  const { unit, backward } = shown;
  byId("unit-title").textContent = title(shown);
  byId("unit-value").textContent = backward ? `Gradient ${number(unit.gradient)}` : number(unit.value);
  byId("unit-note").textContent = backward ? backwardIn(shown) : forwardIn(shown);
  byId("unit-maps").replaceChildren(...maps(shown));
  const tables = backward ? [...sum(shown, unit.backward), ...slopes(unit)] : sum(shown, unit.forward);
  byId("unit-table").replaceChildren(...tables);
}

function title({ model, walk, at, place }) {
  if (at === walk.stations.length) return `The output for ${model.classes[place[2]]}`;
  const { shape } = walk.stations[at - 1];
  const listed = shape.length === 1 && place[0] === 0 && place[1] === 0;
  return where(place, listed ? [1, 1] : [shape.length === 2 ? 1 : 2, 2]).replace(/^./, (letter) => letter.toUpperCase());
}

const many = (count) => count.toLocaleString("en");

function forwardIn({ walk, at, unit }) {
  const { kind } = walk.stations[at - 1];
  const { exact, n_terms: count, bias } = unit.forward;
  if (kind === "Residual") return "The sum of what its layers gave and what went around them.";
  if (!exact) return `${kind} is no weighted sum. Its slopes for the inputs that count most:`;
  if (count === 0 && unit.before === null) return "No input counts here.";
  if (count === 0) return `Its input is ${number(unit.before)}; it counts with 0.`;
  const inputs = count === 1 ? "One input" : `${many(count)} inputs, each`;
  return `${inputs} times its weight${bias ? ", plus the bias" : ""}.${count > 1 ? " The largest products:" : ""}`;
}

function backwardIn({ walk, at, unit }) {
  const { gradient, backward } = unit;
  if (gradient === 0) return "The loss does not change with this number.";
  const way = gradient > 0 ? "grow" : "shrink";
  const change = `If this number grew by 0.01, the loss would ${way} by about ${number(Math.abs(gradient) / 100)}. `;
  if (at === walk.stations.length) {
    const rule = givesProbabilities(walk) ? "−1 / the probability" : "the probability, for the target minus 1";
    return `${change}The loss gives this gradient: ${rule}.`;
  }
  if (!backward.exact) return change;
  if (backward.n_terms === 1) return `${change}It is the gradient of the one number that it goes into, times its weight:`;
  return `${change}It is the sum of the gradients of ${many(backward.n_terms)} numbers that it goes into, times their weights:`;
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
  if (!backward) return [...inputs, ...weights];
  return unit.weights ? [...weights, figure(unit.weights_gradient, "Gradient of the weights")] : [];
}

/** The terms, what all others come to, the bias, and their sum. */
function sum({ walk, backward, unit }, { terms, n_terms: count, rest, bias, exact }) {
  if (!terms.length || (backward && !exact)) return [];
  const several = new Set(terms.map(({ layer }) => layer)).size > 1;
  const named = ({ layer, place }) => {
    const station = layer < 0 ? { kind: "Image", shape: [0, 0] } : walk.stations[layer];
    const listed = station.shape.length === 1 && terms.every((term) => term.place[0] === 0 && term.place[1] === 0);
    const map = station.shape.length === 2 ? "" : `map ${place[0]} `;
    const name = listed ? `number ${place[2]}` : `${map}(${place[1]}, ${place[2]})`;
    return several ? `${station.kind} ${station.path.replace("layers.", "")}: ${name}` : name;
  };
  const cells = (term) => [named(term), number(term.number), `× ${number(term.weight)}`, number(term.product)];
  const rows = terms.map((term) => ({ cells: cells(term) }));
  const sums = [];
  if (exact) {
    const last = (name, value, className) => sums.push({ cells: [name, "", "", number(value)], className });
    if (count > terms.length) last(`${many(count - terms.length)} others`, rest);
    if (bias !== 0) last("bias", bias);
    last("sum", backward ? unit.gradient : unit.value, "total");
  }
  const at = rows.some(({ cells: [name] }) => name.endsWith(")")) ? " (row, column)" : "";
  const titles = backward ? [`goes into${at}`, "gradient", "weight", "product"] : [`input${at}`, "value", "weight", "product"];
  return [table(titles, rows, sums)];
}

function slopes({ steepest, weights }) {
  if (!steepest.length) return [];
  const cells = ({ place, weight, gradient }) => [where(place, weights.shape), number(weight), number(gradient)];
  const title = element("h3", { textContent: "Its weights with the largest gradients" });
  return [title, table(["weight", "value", "gradient"], steepest.map((slope) => ({ cells: cells(slope) })))];
}
