// Maps of numbers on a canvas that tells its values: at the pointer, and at a cell that the arrow keys move.

import * as heat from "/static/heat.js";
import { element, number, speak } from "/static/page.js";

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const tip = element("p", { className: "tip", hidden: true, ariaHidden: "true" });
document.body.append(tip);

/** Where a number is, counted from 0, in words that fit the maps. */
export function where([map, row, column], [maps, rows]) {
  if (maps === 1 && rows === 1) return `number ${column}`;
  return `${maps > 1 ? `map ${map}, ` : ""}row ${row}, column ${column}`;
}

/** Show a small text at a place of the window. */
function showTip(text, x, y) {
  tip.hidden = false;
  tip.textContent = text;
  tip.style.left = `${Math.max(Math.min(x + 12, innerWidth - tip.offsetWidth - 4), 4)}px`;
  tip.style.top = `${y > 60 ? y - tip.offsetHeight - 10 : y + 20}px`;
}

/** Maps side by side as rows of cells: of each its value, and its place [map, row, column]. A single row is folded.
 *  Between two maps there are empty cells, null. */
function laidOut(maps) {
  const [height, width] = [maps[0].length, maps[0][0].length];
  if (maps.length === 1 && height === 1) {
    const across = columns(width);
    const cells = maps[0][0].map((value, i) => ({ value, place: [0, 0, i] }));
    return Array.from({ length: Math.ceil(width / across) }, (_, i) => cells.slice(i * across, (i + 1) * across));
  }
  const across = Math.ceil(Math.sqrt(maps.length));
  const down = Math.ceil(maps.length / across);
  return Array.from({ length: down * (height + 1) - 1 }, (_, y) =>
    Array.from({ length: across * (width + 1) - 1 }, (_, x) => {
      const map = Math.floor(y / (height + 1)) * across + Math.floor(x / (width + 1));
      const [row, column] = [y % (height + 1), x % (width + 1)];
      const value = maps[map]?.[row]?.[column];
      return value === undefined ? null : { value, place: [map, row, column] };
    }),
  );
}

/** The width of a folded list: a divisor that makes it a little wider than high, if there is one. */
function columns(count) {
  if (count <= 12) return count;
  const side = Math.ceil(Math.sqrt(count));
  for (let width = side; width <= 2 * side; width++) if (count % width === 0) return width;
  return side;
}

const shown = new WeakMap(); // what a canvas shows now

/** Show `maps`, lists of rows. Options: `cell`, the size of a cell, or `within`, a width for all of them, with cells of
 *  at most `most`; `grey`; `words(value,
 *  place)`, what is said of a cell; `choose(place)`, for a click or Enter; `chosen`, the place that has a frame. */
export function fill(canvas, maps, options) {
  const before = shown.get(canvas);
  const state = { ...options, maps, cells: laidOut(maps), cursor: null };
  state.cell ??= Math.max(Math.min(Math.floor(options.within / state.cells[0].length), options.most ?? 14), 2);
  if (options.within) canvas.style.width = `${state.cells[0].length * state.cell}px`;
  state.words ??= (value, place) => `${where(place, [maps.length, maps[0].length])}: ${number(value)}`;
  shown.set(canvas, state);
  canvas.tabIndex = 0;
  canvas.role = "application"; // or a screen reader would keep the arrow keys for itself
  canvas.setAttribute("aria-roledescription", "map of numbers");
  canvas.style.aspectRatio = `${state.cells[0].length} / ${state.cells.length}`;
  redraw(canvas);
  if (!before) listen(canvas);
}

function redraw(canvas) {
  const { cells, cell, grey, chosen, cursor } = shown.get(canvas);
  const rows = cells.map((row) => row.map((one) => one && one.value));
  (grey ? heat.grey : heat.signed)(canvas, rows, cell);
  const size = canvas.width / rows[0].length;
  const context = canvas.getContext("2d");
  context.strokeStyle = getComputedStyle(canvas).color;
  context.lineWidth = 3;
  for (const [y, x] of [chosen && position(cells, chosen), cursor].filter(Boolean)) {
    context.strokeRect(x * size, y * size, size, size);
  }
}

function position(cells, place) {
  for (const [y, row] of cells.entries()) {
    const x = row.findIndex((one) => String(one?.place) === String(place));
    if (x >= 0) return [y, x];
  }
  return null;
}

function listen(canvas) {
  const at = (event) => {
    const { cells } = shown.get(canvas);
    const box = canvas.getBoundingClientRect();
    const y = Math.floor(((event.clientY - box.top) / box.height) * cells.length);
    return cells[y]?.[Math.floor(((event.clientX - box.left) / box.width) * cells[0].length)];
  };
  canvas.addEventListener("pointermove", (event) => {
    const one = at(event);
    if (one) showTip(shown.get(canvas).words(one.value, one.place), event.clientX, event.clientY);
    else tip.hidden = true;
  });
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("click", (event) => {
    const one = at(event);
    if (one) shown.get(canvas).choose?.(one.place);
  });
  canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && move(canvas, [0, 0]));
  canvas.addEventListener("blur", () => {
    shown.get(canvas).cursor = null;
    tip.hidden = true;
    redraw(canvas);
  });
  canvas.addEventListener("keydown", (event) => key(canvas, event));
}

function key(canvas, event) {
  const { cells, cursor, choose } = shown.get(canvas);
  if (event.key in ARROWS) move(canvas, ARROWS[event.key]);
  else if (event.key === "Escape") tip.hidden = true;
  else if ((event.key === "Enter" || event.key === " ") && choose && cursor) choose(cells[cursor[0]][cursor[1]].place);
  else return;
  event.preventDefault();
}

/** Move the cursor to the next cell that is not empty, and tell its value. It begins at the chosen, or the largest. */
function move(canvas, [down, right]) {
  const state = shown.get(canvas);
  const { cells } = state;
  let [y, x] = state.cursor ?? (state.chosen && position(cells, state.chosen)) ?? largest(cells);
  do [y, x] = [y + down, x + right];
  while (cells[y]?.[x] === null);
  if (!cells[y]?.[x]) return;
  state.cursor = [y, x];
  redraw(canvas);
  const box = canvas.getBoundingClientRect();
  const { value, place } = cells[y][x];
  const text = state.words(value, place);
  showTip(text, box.left + ((x + 0.5) / cells[0].length) * box.width, box.top + (y / cells.length) * box.height);
  speak(text);
}

function largest(cells) {
  let best = [0, 0];
  cells.forEach((row, y) =>
    row.forEach((one, x) => {
      if (one && Math.abs(one.value) > Math.abs(cells[best[0]][best[1]].value)) best = [y, x];
    }),
  );
  return best;
}
