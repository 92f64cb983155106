// The page that walks through the network: forward to the loss and backward from it, one layer after the other.

import * as api from "/static/api.js";
import { Drawing } from "/static/drawing.js";
import { example } from "/static/examples.js";
import { byId, element, kept, speak } from "/static/page.js";
import { penned } from "/static/pad.js";
import { showStation } from "/static/station.js";
import { showUnit } from "/static/unit.js";

const START = 3; // the example that is shown where nothing was drawn

let model = null;
let pixels = null;
let walk = null;
let at = 0; // 0: the image; 1 and on: the layers; the last: the loss
let backward = false;
let units = new Map(); // the chosen place, by station
let begun = 0; // counts the walks, and
let asked = 0; // what is shown of them, so that an answer that comes late is not

const drawing = new Drawing(byId("strip"), (i) => go(i, backward));
const last = () => walk.stations.length + 1;

async function attempt(work) {
  byId("problem").hidden = true;
  try {
    await work();
  } catch (error) {
    byId("problem").hidden = false;
    byId("problem").textContent = error.message;
  }
}

/** Another image (or a promise of one) or another class: the whole way anew. */
const restart = (image, target) =>
  attempt(async () => {
    const mine = ++begun;
    const rows = await image;
    const whole = await api.walk(rows, target);
    if (mine !== begun) return; // another one was asked for meanwhile
    [pixels, walk, units] = [rows, whole, new Map()];
    byId("target").value = walk.target;
    drawing.make(walk, model, pixels);
    await go(Math.min(at, last()), backward);
  });

/** Show station `i`, on the way forward or backward. */
async function go(i, back) {
  at = i;
  backward = back;
  const mine = ++asked;
  drawing.mark(at, backward);
  showSteps();
  await attempt(async () => {
    const layer = at > 0 ? await api.layer(pixels, walk.target, Math.min(at, walk.stations.length) - 1) : null;
    if (mine !== asked) return;
    const place = showStation({ model, pixels, walk, at, backward, layer, chosen: units.get(at), choose });
    byId("station").hidden = false;
    await unit(place);
  });
}

async function choose(place) {
  units.set(at, place);
  await go(at, backward);
}

async function unit(place) {
  byId("unit").hidden = !place;
  if (!place) return;
  const mine = asked;
  const found = await api.unit(pixels, walk.target, at - 1, place);
  if (mine === asked) showUnit({ model, walk, at, backward, place, unit: found });
}

/** One step on: forward to the loss, there it turns, and backward to the image. */
function step(onward) {
  if (!walk) return;
  if (onward && !backward && at === last()) go(at, true);
  else if (!onward && backward && at === last()) go(at, false);
  else go(Math.min(Math.max(at + (onward === backward ? -1 : 1), 0), last()), backward);
}

function showSteps() {
  const done = backward ? 2 * last() + 1 - at : at;
  const name = at === 0 ? "Image" : at === last() ? "Loss" : walk.stations[at - 1].kind;
  const text = `Step ${done + 1} of ${2 * last() + 2}: ${name}, ${backward ? "backward" : "forward"}`;
  byId("step").textContent = text;
  byId("previous").disabled = done === 0;
  byId("next").disabled = backward && at === 0;
  byId("forward").ariaPressed = String(!backward);
  byId("backward").ariaPressed = String(backward);
  speak(text);
}

/** An example as the model sees it. */
async function written(digit) {
  const { digits, reason } = await api.read(await penned(example(digit)));
  if (!digits.length) throw new Error(reason);
  return digits[0].pixels;
}

/** The digit of the drawing page, if there is one that fits the model. */
function carriedOver() {
  const [height, width] = model.image;
  const carried = kept("digit");
  return carried?.length === height && carried[0].length === width ? carried : null;
}

byId("previous").onclick = () => step(false);
byId("next").onclick = () => step(true);
byId("forward").onclick = () => walk && go(at, false);
byId("backward").onclick = () => walk && go(at, true);
byId("target").onchange = (event) => restart(pixels, Number(event.target.value));

document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !walk || event.defaultPrevented || event.target.matches("select") || event.altKey || event.ctrlKey) return;
  event.preventDefault();
  go(Math.min(Math.max(at + step, 0), last()), backward);
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => walk && go(at, backward));

for (let digit = 0; digit < 10; digit++) {
  const button = element("button", { type: "button", textContent: digit, ariaLabel: `Example ${digit}` });
  button.onclick = () => restart(written(digit));
  byId("examples").append(button);
}

await attempt(async () => {
  model = await api.about();
  byId("model").textContent = `${model.name}: ${model.parameters.toLocaleString("en")} parameters, on ${model.device}`;
  byId("target").append(...model.classes.map((name, i) => element("option", { value: i, textContent: name })));
  await restart(carriedOver() ?? written(START));
});
