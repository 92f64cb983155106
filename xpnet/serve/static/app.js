// The page: what is drawn or dropped goes to the API, and what comes back is shown.

import * as api from "/static/api.js";
import { example } from "/static/examples.js";
import { onPad, Pad } from "/static/pad.js";
import { keep, kept } from "/static/page.js";
import * as view from "/static/view.js";

const byId = (id) => document.getElementById(id);
const pad = new Pad(byId("pad"), byId("nib"));

let model = null;
let photo = null; // a file, while one is shown in the place of the pad
let reading = null;
let explained = null; // [digit, explanation, answer], to be painted again in other colours
let chosen = 0;
let drawing = false; // the pen is down
let asked = 0; // counts the explanations: one that comes late is not shown

/** `work`, but never twice at a time: what is asked for meanwhile is done once, afterwards. */
function oneAtATime(work) {
  let running = false;
  let again = false;
  return async () => {
    again = true;
    if (running) return;
    running = true;
    try {
      while (again) {
        again = false;
        await work();
      }
    } finally {
      running = false;
    }
  };
}

const read = oneAtATime(async () => {
  if (!photo && pad.empty) {
    nothing("", "Nothing drawn yet", "Write on the squared paper, or press a digit below it for an example.");
    return;
  }
  const source = photo;
  const waiting = setTimeout(() => {
    if (!reading?.digits.length) view.showVerdict("…", source ? "Reading the photo" : "Reading the drawing");
  }, 500);
  try {
    const answer = await api.read(source ?? (await pad.image()));
    if (photo !== source) return; // the other one is read next
    reading = answer;
    if (!source) for (const digit of reading.digits) digit.box = digit.box.map(onPad);
    if (reading.digits.length) await choose(0);
    else nothing("–", "No digit found", reading.reason);
  } catch (error) {
    if (photo === source) nothing("!", source ? "This could not be read" : "No answer", error.message);
  } finally {
    clearTimeout(waiting);
  }
});

function nothing(numeral, says, reason = "") {
  const why = reason.replace(/^the (picture|image): /, "").replace(/^./, (letter) => letter.toUpperCase());
  reading = { text: "", digits: [] };
  explained = null;
  view.showVerdict(numeral, says, why);
  view.showBars();
  view.showFound(reading, 0, choose);
  view.hideExplanation();
  if (!drawing) view.speak(`${says}. ${why}`);
}

/** Show this one of the digits that were found. */
async function choose(i) {
  const hadFocus = byId("found").contains(document.activeElement);
  chosen = i;
  const digit = reading.digits[i];
  view.showReading(reading, i);
  keep("digit", digit.pixels); // for the page /network
  view.showFound(reading, i, choose);
  if (hadFocus) byId("found").children[i].focus();
  if (!drawing) view.speak(`${byId("says").textContent}. ${byId("why").textContent}`);
  await explain(digit, likeliest(digit));
}

const likeliest = ({ probabilities }) => probabilities.indexOf(Math.max(...probabilities));

/** Why the digit is this class; if it is not, why not. */
async function explain(digit, wanted) {
  const answer = likeliest(digit);
  const whyNot = wanted === answer ? null : answer;
  const mine = ++asked;
  const late = () => mine !== asked || reading.digits[chosen] !== digit; // another one was asked for meanwhile
  try {
    const explanation = await api.explain(digit.pixels, wanted, whyNot);
    if (late()) return;
    explained = [digit, explanation, whyNot === null ? null : model.classes[answer]];
    view.showExplanation(...explained);
    if (whyNot !== null) view.speak(byId("reason").textContent);
  } catch (error) {
    if (!late()) nothing("!", "No answer", error.message);
  }
}

byId("bars").addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && reading?.digits.length) explain(reading.digits[chosen], row.sectionRowIndex);
});

// Drawing

function refresh() {
  byId("undo").hidden = byId("pen").parentElement.hidden = photo !== null;
  byId("choose").textContent = photo ? "Another photo" : "Photo";
  byId("undo").disabled = !pad.canUndo;
  byId("clear").disabled = photo === null && pad.empty;
  byId("clear").textContent = photo ? "Back to drawing" : "Clear";
  byId("invitation").hidden = photo !== null || !pad.empty;
  for (const tool of ["pen", "eraser"]) byId(tool).ariaPressed = String(pad.tool === tool);
}

function take(tool) {
  pad.tool = tool;
  refresh();
}

function clear() {
  if (photo) showPhoto(null);
  else pad.clear();
}

function write(digit) {
  if (photo) showPhoto(null);
  pad.write(example(digit));
}

pad.onChange = (done) => {
  drawing = !done;
  if (done) keep("drawing", pad.strokes);
  refresh();
  read();
};
pad.onPen = (down) => view.speak(down ? "Pen down" : "Pen up");

byId("pen").onclick = () => take("pen");
byId("eraser").onclick = () => take("eraser");
byId("undo").onclick = () => pad.undo();
byId("clear").onclick = clear;
for (let digit = 0; digit < 10; digit++) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: digit });
  button.ariaLabel = `Write a ${digit}`;
  button.onclick = () => write(digit);
  document.querySelector(".examples").append(button);
}

const KEYS = { e: () => take("eraser"), p: () => take("pen"), u: () => pad.undo(), Delete: clear, Backspace: clear };

byId("pad").addEventListener("keydown", (event) => {
  if (event.altKey || (event.ctrlKey || event.metaKey) && event.key !== "z") return;
  const action = /^[0-9]$/.test(event.key) ? () => write(Number(event.key)) : KEYS[event.key.replace("z", "u")];
  if (!action) return;
  event.preventDefault();
  action();
});

// Photos

function showPhoto(file) {
  URL.revokeObjectURL(byId("photo-image").src);
  photo = file;
  byId("photo").hidden = file === null;
  byId("photo").classList.remove("unshown");
  byId("pad").inert = file !== null;
  if (file) byId("photo-image").src = URL.createObjectURL(file);
  else byId("photo-image").removeAttribute("src");
  byId("boxes").replaceChildren();
  refresh();
  read();
}

function takePhoto(file) {
  if (!file) return;
  if (model && file.size > model.max_bytes) {
    nothing("!", "This file is too large", `At most ${model.max_bytes / 2 ** 20} MiB; make the image smaller first.`);
    return;
  }
  view.showVerdict("…", "Reading the photo");
  showPhoto(file);
}

byId("photo-image").onload = () => reading?.digits.length && view.showFound(reading, chosen, choose);
byId("photo-image").onerror = () => photo && byId("photo").classList.add("unshown");
byId("choose").onclick = () => byId("file").click();
byId("file").onchange = (event) => {
  takePhoto(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
};
document.addEventListener("paste", (event) => takePhoto(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("over", event.dataTransfer.types.includes("Files"));
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  takePhoto(event.dataTransfer.files[0]);
});

// Light and dark

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  pad.redraw();
  if (explained) view.showExplanation(...explained);
});

pad.restore(kept("drawing") ?? []);
refresh();

try {
  model = await api.about();
  view.showModel(model);
  read();
} catch (error) {
  nothing("!", "No answer", error.message);
}
