// One station of the walk: what the layer is, and the numbers that it gives, or the gradient of the loss for them.

import { fill, where } from "/static/grid.js";
import { peak } from "/static/heat.js";
import { byId, element, givesProbabilities, number, percent, table } from "/static/page.js";

const BARS = 40; // numbers; more than that become cells

/** Show the station, and give the place [map, row, column] of the number to work out, or null. */
export function showStation(shown) {
  const { walk, at } = shown;
  if (at === 0) return showImage(shown);
  if (at > walk.stations.length) return showLoss(shown);
  return showLayer(shown);
}

function head(kind, formula, facts) {
  byId("kind").textContent = kind;
  byId("formula").textContent = formula.replaceAll("`", "");
  byId("facts").replaceChildren(
    ...facts.map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })),
    ),
  );
}

function body(title, note, ...parts) {
  byId("values-title").textContent = title;
  byId("values-note").textContent = note;
  byId("values").replaceChildren(...parts);
}

function showImage({ pixels, walk, backward }) {
  const [height, width] = [pixels.length, pixels[0].length];
  const canvas = element("canvas", { className: "large" });
  const at = ([, row, column]) => `row ${row}, column ${column}`;
  if (backward) {
    const { numbers, block } = walk.gradient;
    head("Image", "How the loss would change with the ink at each pixel.", [["Shape", `${height} × ${width}`]]);
    const words = (value, place) => `${at(place.map((n) => n * block))}: gradient ${number(value)}`;
    fill(canvas, numbers, { within: 392, words });
    canvas.ariaLabel = "Gradient of the loss with respect to each pixel";
    const colours = "Orange: more ink here makes the loss larger. Blue: it makes the loss smaller.";
    body("Gradient with respect to the image", colours, canvas);
  } else {
    head("Image", "What goes into the network: 0 for paper to 255 for ink.", [["Shape", `${height} × ${width}`]]);
    fill(canvas, [pixels], { within: 392, grey: true, words: (value, place) => `${at(place)}: ${value}` });
    canvas.ariaLabel = "The image, pixel by pixel";
    body("Pixels", "Point at a pixel to read its value.", canvas);
  }
  return null;
}

function showLoss({ model, walk, backward, layer }) {
  const { outputs, probabilities, loss, target } = walk;
  const gradients = layer.gradient.numbers[0][0];
  const name = model.classes[target];
  const given = givesProbabilities(walk);
  const formula = given ?
    "The outputs are probabilities already. The cross-entropy is −ln of the target's, p; its gradient with respect to " +
    "an output is −1 / p for the target, and 0 for all others." :
    "Softmax makes probabilities of the outputs: p = exp(output) / the sum of exp over all outputs. " +
    "The cross-entropy is −ln of the target's probability; its gradient with respect to an output is p − 1 for the " +
    "target, and p for all others.";
  head("Loss", formula, [["Target", name], ["Loss", number(loss)]]);
  const rows = model.classes.map((label, i) => {
    const cells = [label, number(outputs[i]), percent(probabilities[i]), number(gradients[i])];
    return { cells, className: i === target ? "target" : "" };
  });
  const part = table(["Class", "Output", "Probability", "Gradient"], rows);
  const tiny = " The network is so sure of this class that all gradients are tiny: choose another one above.";
  const sure = loss < 0.01 && !given ? tiny : "";
  const said = backward ? `Here the way back begins.${sure}` : `−ln ${number(probabilities[target])} = ${number(loss)}`;
  body(`The loss for ${name} is ${number(loss)}`, said, part);
  return null;
}

function showLayer(shown) {
  const { walk, at, backward, layer, chosen } = shown;
  const station = walk.stations[at - 1];
  const { shape, block, numbers } = backward ? layer.gradient : layer.values;
  head(station.kind, station.formula, facts(station, shown));
  const what = backward ? "Gradient of the loss with respect to these numbers" : "The numbers that it gives";
  const [maps, rows, columns] = shape;
  const place = chosen ?? steepest(shown, numbers, block);
  const listed = maps === 1 && rows === 1 && columns <= BARS;
  const part = listed ? bars(shown, numbers[0][0], place) : cellsOf(shown, numbers, place);
  body(what, note(shape, block, numbers), part, ...(layer.attention && !backward ? attention(layer.attention) : []));
  return place;
}

/** What attention reads: a map for each head. */
function attention({ shape: [heads], block, numbers }) {
  const canvas = element("canvas", { ariaLabel: `Attention weights of ${heads} heads` });
  const words = (value, [head, row, column]) =>
    `Head ${head}: position ${row * block} reads ${column * block}, ${percent(value)}`;
  fill(canvas, numbers, { most: 24, within: 392, words });
  const parts = [
    "A map for each head: a row is a position that reads, and its columns are the positions that it reads. " +
      "The weights of a row add up to 100 %.",
    ...(numbers.length < heads ? [`The first ${numbers.length} of ${heads} heads.`] : []),
    ...(block > 1 ? [`Each cell is the mean of ${block} × ${block} weights.`] : []),
  ];
  const title = element("h3", { textContent: "What it reads: the attention weights" });
  return [title, element("p", { className: "note", textContent: parts.join(" ") }), canvas];
}

function facts({ path, shape, rms, gradient_rms: slope, parameters }, { backward }) {
  const typical = [`Typical size${backward ? " of a gradient" : ""}`, number(backward ? slope : rms)];
  const found = [["Path", path], ["Shape", shape.join(" × ")], typical];
  for (const { name, shape: axes, rms: large, gradient_rms: steep } of parameters) {
    const size = !backward ? number(large) : steep === null ? "not trained" : number(steep);
    found.push([`${backward ? `Gradient of ${name}` : `Typical size of ${name}`}, ${axes.join(" × ")}`, size]);
  }
  return found;
}

function note([maps, rows, columns], block, numbers) {
  const parts = [];
  if (numbers.length < maps) parts.push(`The first ${numbers.length} of ${maps} maps.`);
  if (numbers[0][0].length * block < columns) parts.push(`The first ${numbers[0][0].length} of ${columns} numbers.`);
  if (block > 1) parts.push(`Each cell is the mean of ${block} × ${block} numbers.`);
  const what = rows > 1 ? `${maps > 1 ? `${maps} feature maps` : "One map"} of ${rows} × ${columns}.` : `${columns} numbers.`;
  return [what, ...parts, "Choose one to see how it comes about."].join(" ");
}

/** The number to begin with: of the outputs the target's, else the largest. */
function steepest({ walk, at }, numbers, block) {
  if (at === walk.stations.length) return [0, 0, walk.target];
  let best = [0, 0, 0];
  numbers.forEach((rows, m) => rows.forEach((row, r) => row.forEach((value, c) => {
    if (Math.abs(value) > Math.abs(numbers[best[0]][best[1]][best[2]])) best = [m, r, c];
  })));
  return [best[0], best[1] * block, best[2] * block];
}

function cellsOf({ walk, at, backward, layer, choose }, numbers, place) {
  const { shape, block } = backward ? layer.gradient : layer.values;
  const canvas = element("canvas");
  const full = ([map, row, column]) => [map, row * block, column * block];
  fill(canvas, numbers, {
    most: 24,
    within: Math.min(600, document.querySelector("main").clientWidth - 40),
    words: (value, cell) => `${where(full(cell), shape)}: ${number(value)}`,
    choose: (cell) => choose(full(cell)),
    chosen: [place[0], ...place.slice(1).map((n) => Math.floor(n / block))],
  });
  const { kind } = walk.stations[at - 1];
  const [low, high] = [Math.min(...numbers.flat(2)), Math.max(...numbers.flat(2))].map(number);
  canvas.ariaLabel = `${kind}: ${backward ? "gradients" : "numbers"} from ${low} to ${high}`;
  return canvas;
}

function bars({ model, walk, at, choose }, values, place) {
  const largest = peak([values]) || 1;
  const outputs = at === walk.stations.length;
  return element("div", { className: `rows${outputs ? " outputs" : ""}` }, ...values.map((value, i) => {
    const bar = element("i", { className: value < 0 ? "negative" : "" });
    bar.style.width = `${(50 * Math.abs(value)) / largest}%`;
    const name = outputs ? model.classes[i] : i;
    const row = element("button", { type: "button", ariaPressed: String(i === place[2]) });
    row.ariaLabel = `${name}: ${number(value)}`;
    row.append(element("b", { textContent: name }), element("span", { className: "signed" }, bar));
    row.append(element("span", { textContent: number(value) }));
    row.onclick = () => choose([0, 0, i]);
    return row;
  }));
}
