// The page: settings go to the server, which trains; what comes back after each epoch is shown, and kept to look at.

import { draw, epochAt, logarithmic, towardsOne } from "/static/chart.js";
import { lines } from "/static/lines.js";
import { byId } from "/static/page.js";
import { showMisread, showWeights } from "/static/tiles.js";

const CHOICES = {
  rate: [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100, 1000, 10000, 100000],
  width: [1, 2, 4, 8, 16, 32, 64, 128, 256],
  depth: [0, 1, 2, 3, 4, 5, 6, 7, 8],
  epochs: [10, 20, 40, 60, 100, 200],
};
const USUAL = { rate: 0.1, width: 32, depth: 2, epochs: 40 };

let run = { settings: settings(), epochs: [] };
let before = null; // the run before this one
let earlier = [run, before]; // these two, as they were before the run that is starting
let looked = null; // the epoch that is looked at; null for the last
let stop = null; // ends the run that goes on

const percent = (fraction) => `${(100 * fraction).toFixed(1)} %`;
const rateOf = (rate) => (rate < 1e4 ? String(rate) : rate.toExponential(0).replace("+", ""));
const loss = (value) => {
  if (value === null) return "not finite";
  return value < 1e4 && (value >= 1e-3 || value === 0) ? value.toFixed(3) : value.toExponential(1);
};

// Settings

for (const [name, choices] of Object.entries(CHOICES)) {
  const slider = byId(name);
  Object.assign(slider, { min: 0, max: choices.length - 1, value: choices.indexOf(USUAL[name]) });
  slider.oninput = () => {
    showSettings();
    restartSoon();
  };
}
byId("activation").onchange = () => {
  showSettings();
  restartSoon();
};

function settings() {
  const chosen = { activation: byId("activation").value };
  for (const [name, choices] of Object.entries(CHOICES)) chosen[name] = choices[byId(name).value] ?? USUAL[name];
  return chosen;
}

function showSettings() {
  const chosen = settings();
  for (const name of Object.keys(CHOICES)) {
    const said = name === "rate" ? rateOf(chosen.rate) : String(chosen[name]);
    byId(`${name}-is`).textContent = byId(name).ariaValueText = said;
  }
  const sizes = sizesOf(chosen);
  const parameters = sizes.slice(1).reduce((sum, size, i) => sum + (sizes[i] + 1) * size, 0);
  byId("network").textContent = `${sizes.join(" → ")}, ${parameters.toLocaleString("en")} parameters`;
  byId("activation").disabled = byId("width").disabled = chosen.depth === 0;
  if (!stop && !run.epochs.length) run.settings = chosen; // no run yet: the title is that of the next
  show();
}

const sizesOf = ({ width, depth }) => [64, ...new Array(depth).fill(width), 10];

function titleOf({ settings: { rate, width, depth, activation } }) {
  return `digits, ${sizesOf({ width, depth }).join("-")}${depth ? ` ${activation}` : ""}, rate ${rateOf(rate)}`;
}

// A run

let waiting;

/** A run that goes on begins again with the new settings, once they have been the same for a moment. */
function restartSoon() {
  clearTimeout(waiting);
  if (stop) waiting = setTimeout(train, 400);
}

async function train() {
  stop?.abort();
  const mine = (stop = new AbortController());
  if (run.epochs.length) earlier = [run, before];
  if (run.epochs.length > 1) before = run;
  const current = (run = { settings: settings(), epochs: [] });
  looked = null;
  byId("problem").textContent = "";
  showRunning();
  show();
  let ended = "";
  try {
    for await (const line of lines("/api/train", current.settings, mine.signal)) {
      if (run !== current) return;
      if (line.error) ended = line.error;
      else current.epochs.push(line);
      show();
    }
  } catch (error) {
    if (error.name !== "AbortError") ended = error.message;
  }
  if (run !== current) return; // another one has begun
  stop = null;
  const begun = run.epochs.length > 0;
  if (!begun) [run, before] = earlier;
  const why = ended.replace(/^./, (letter) => letter.toUpperCase());
  byId("problem").textContent = ended && begun ? `The run has ended. ${why}` : why;
  showRunning();
  render();
  speak(byId("says").textContent);
}

byId("settings").onsubmit = (event) => {
  event.preventDefault();
  clearTimeout(waiting); // of a run that is stopped, nothing begins again
  if (stop) stop.abort();
  else train();
};

function showRunning() {
  byId("start").textContent = stop ? "Stop" : "Start";
}

// What is shown

let pending = 0;

/** Show it all with the next image on the screen: lines may come faster than those. */
function show() {
  pending ||= requestAnimationFrame(render);
}

function render() {
  pending = 0;
  const { epochs } = run;
  showCurves();
  if (!epochs.length) {
    byId("says").textContent = stop ? "Starting …" : "Nothing learnt yet";
    return;
  }
  const last = epochs.length - 1;
  const at = Math.min(looked ?? last, last);
  const epoch = epochs[at];
  Object.assign(byId("epoch"), { max: last, value: at, disabled: false });
  byId("epoch-is").textContent = `${at} of ${run.settings.epochs}`;
  byId("training-loss").textContent = loss(epoch.training_loss);
  byId("held-out-loss").textContent = loss(epoch.held_out_loss);
  byId("training-accuracy").textContent = percent(epoch.training_accuracy);
  byId("held-out-accuracy").textContent = percent(epoch.held_out_accuracy);
  byId("says").textContent = `${percent(epochs[last].held_out_accuracy)} right after epoch ${last}`;
  showWeights(epoch, run.settings);
  showMisread(epoch);
  if (stop && last % 10 === 0) speak(`Epoch ${last}: ${percent(epoch.held_out_accuracy)} of the held-out digits right`);
}

const PARTS = { loss: "Loss", accuracy: "Accuracy" };

function showCurves() {
  const last = run.settings.epochs;
  const shown = run.epochs.length ? Math.min(looked ?? Infinity, run.epochs.length - 1) : null;
  byId("curves-title").textContent = titleOf(run);
  for (const [part, name] of Object.entries(PARTS)) {
    const drawn = (value) => value !== null && (part !== "loss" || value > 0); // the axis of losses has no 0
    const points = (epochs, of) =>
      epochs.map((epoch) => [epoch.epoch, epoch[`${of}_${part}`]]).filter(([epoch, value]) => drawn(value) && epoch <= last);
    const curves = [
      { kind: "before", points: before ? points(before.epochs, "held_out") : [] },
      { kind: "training", points: points(run.epochs, "training") },
      { kind: "held-out", points: points(run.epochs, "held_out") },
    ];
    const values = curves.flatMap((curve) => curve.points.map(([, value]) => value));
    draw(byId(part), curves, part === "loss" ? logarithmic(values) : towardsOne(values, 1 / (run.epochs[0]?.held_out ?? 100)), last, shown);
    byId(part).ariaLabel = described(name, part);
  }
  byId("before-key").hidden = before === null;
  if (before) byId("before-is").textContent = `held out, the run before (${titleOf(before).replace("digits, ", "")})`;
}

/** In words, for those who do not see it. */
function described(name, part) {
  const { epochs } = run;
  if (!epochs.length) return `${name} by epoch: nothing yet`;
  const [first, last] = [epochs[0], epochs.at(-1)];
  const figure = part === "loss" ? loss : percent;
  const way = (of) => `from ${figure(first[`${of}_${part}`])} to ${figure(last[`${of}_${part}`])}`;
  return `${name} after ${last.epoch} epoch${last.epoch === 1 ? "" : "s"}: training ${way("training")}, held out ${way("held_out")}`;
}

byId("epoch").oninput = () => {
  const at = Number(byId("epoch").value);
  looked = at === run.epochs.length - 1 ? null : at;
  show();
};

// The pointer over a chart looks at its epoch; afterwards the slider's is looked at again.
let underSlider = null;
for (const part of Object.keys(PARTS)) {
  byId(part).addEventListener("pointerenter", () => (underSlider = looked));
  byId(part).addEventListener("pointermove", (event) => {
    looked = epochAt(byId(part), event, run.settings.epochs);
    show();
  });
  byId(part).addEventListener("pointerleave", () => {
    looked = underSlider;
    show();
  });
}

function speak(text) {
  if (byId("spoken").textContent !== text) byId("spoken").textContent = text;
}

new ResizeObserver(showCurves).observe(byId("loss"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
showSettings();
