// What each head of each layer reads: a map for each, and one of them character by character.

import { named, percent, shown } from "/static/characters.js";
import { fractions } from "/static/heat.js";
import { byId } from "/static/page.js";

let answer = null;
let chosen = { layer: 0, head: 0 };
let asking = null; // the position that looks back; null for the last

/** Show the attention of this answer. */
export function showAttention(given) {
  if (given !== answer) asking = null;
  answer = given;
  const { attention } = answer;
  byId("line").parentElement.hidden = !attention.length;
  if (!attention.length) return;
  chosen = { layer: Math.min(chosen.layer, attention.length - 1), head: chosen.head };
  chosen.head = Math.min(chosen.head, attention[chosen.layer].heads.length - 1);
  showLine();
  showHeads();
  tell(looked());
}

const characters = () => [...answer.read];
const position = () => Math.min(asking ?? Infinity, characters().length - 1);
const weights = ({ layer, head } = chosen) => answer.attention[layer].heads[head][position()];
const nameOf = ({ layer, head }) => `Layer ${layer + 1}, head ${head + 1}`;
const place = (i) => `“${named(characters()[i])}” (${i + 1})`;

/** The characters that are read most, in words. */
function looked(which = chosen) {
  const order = weights(which).map((p, i) => [p, i]).sort(([p], [q]) => q - p).slice(0, 4);
  const most = order.filter(([p]) => p >= 0.01).map(([p, i]) => `${percent(p)} of ${place(i)}`);
  return `${nameOf(which)}: ${place(position())} takes ${most.join(", ")}`;
}

function read(i) {
  const p = weights()[i];
  return p === undefined
    ? `${place(i)} comes later than ${place(position())}: it is hidden`
    : `${nameOf(chosen)}: ${place(position())} takes ${percent(p)} of ${place(i)}`;
}

function tell(text) {
  byId("value").textContent = text;
}

// One head, character by character: a bar above each that is read

function showLine() {
  const line = byId("line");
  const focused = [...line.children].indexOf(document.activeElement);
  const row = weights();
  line.replaceChildren(
    ...characters().map((character, i) => {
      const cell = document.createElement("button");
      const bar = document.createElement("i");
      bar.style.height = `${100 * (row[i] ?? 0)}%`;
      cell.append(bar, shown(character));
      Object.assign(cell, {
        type: "button", tabIndex: i === position() ? 0 : -1, ariaPressed: String(i === position()),
        className: row[i] === undefined ? "later" : "", ariaLabel: `${named(character)}, ${i + 1}: ${row[i] === undefined ? "later" : percent(row[i])}`,
      });
      cell.onclick = () => look(i);
      cell.onfocus = cell.onpointerenter = () => tell(read(i));
      cell.onpointerleave = () => tell(looked());
      return cell;
    }),
  );
  line.children[focused]?.focus();
}

/** Let this position look back. */
function look(i, head = chosen) {
  [asking, chosen] = [i, head];
  showLine();
  showHeads();
  tell(looked());
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

byId("line").addEventListener("keydown", (event) => {
  const cells = [...byId("line").children];
  const at = cells.indexOf(document.activeElement);
  const to = { Home: 0, End: cells.length - 1 }[event.key] ?? at + (STEPS[event.key] ?? NaN);
  if (!cells[to]) return;
  event.preventDefault();
  cells[to].focus();
});

// All heads, each as a map

function showHeads() {
  const { attention } = answer;
  const buttons = [...byId("layers").querySelectorAll("button")];
  if (buttons.length !== attention.reduce((sum, { heads }) => sum + heads.length, 0)) {
    byId("layers").replaceChildren(...attention.map(({ heads }, layer) => makeLayer(layer, heads.length)));
  }
  for (const button of byId("layers").querySelectorAll("button")) {
    const which = { layer: Number(button.dataset.layer), head: Number(button.dataset.head) };
    const rows = attention[which.layer].heads[which.head];
    const padded = rows.map((row) => [...row, ...new Array(rows.length - row.length).fill(null)]);
    fractions(button.firstElementChild, padded, Math.max(Math.ceil(90 / rows.length), 2), position());
    button.ariaPressed = String(which.layer === chosen.layer && which.head === chosen.head);
    button.ariaLabel = looked(which);
  }
}

function makeLayer(layer, heads) {
  const made = document.createElement("div");
  const title = document.createElement("h3");
  title.textContent = `Layer ${layer + 1}`;
  const row = document.createElement("div");
  row.className = "heads";
  row.append(...Array.from({ length: heads }, (_, head) => makeHead({ layer, head })));
  made.append(title, row);
  return made;
}

function makeHead(which) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button" });
  Object.assign(button.dataset, which);
  const map = document.createElement("canvas");
  const label = document.createElement("span");
  label.textContent = `head ${which.head + 1}`;
  button.append(map, label);
  const under = (event) => {
    const box = map.getBoundingClientRect();
    const cell = (part) => Math.min(Math.floor(part * characters().length), characters().length - 1);
    return [cell((event.clientY - box.top) / box.height), cell((event.clientX - box.left) / box.width)];
  };
  map.onpointermove = (event) => {
    const [from, to] = under(event);
    const p = answer.attention[which.layer].heads[which.head][from]?.[to];
    const what = p === undefined ? `may not read ${place(to)}: it comes later` : `takes ${percent(p)} of ${place(to)}`;
    tell(`${nameOf(which)}: ${place(from)} ${what}`);
  };
  map.onpointerleave = () => tell(looked());
  button.onfocus = () => tell(looked(which));
  button.onclick = (event) => look(event.detail && event.target === map ? under(event)[0] : position(), which);
  return button;
}
