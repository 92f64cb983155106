// Numbers as coloured cells. Blue for negative, orange for positive: told apart by all common kinds of colour vision.

const SHARPER = 2; // canvas pixels for each CSS pixel

/** From blue over neutral to orange, against `largest`. */
export function signed(largest) {
  const [neutral, positive, negative] = colours("--neutral", "--positive", "--negative");
  return (value) => {
    const strength = largest > 0 ? Math.min(Math.abs(value) / largest, 1) : 0;
    return mixed(neutral, value > 0 ? positive : negative, strength ** 0.8);
  };
}

/** Grey values 0 to 255, from the page's paper to its ink. */
export function grey() {
  const [paper, ink] = colours("--card", "--ink");
  return (value) => mixed(paper, ink, value / 255);
}

/** The largest size of all numbers in nested lists. */
export const peak = (numbers) => numbers.flat(Infinity).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Maps (lists of rows) side by side as rows of cells: of each cell its value, and its place [map, row, column].
 *  A single row is folded. Between two maps there are empty cells. */
export function laidOut(maps) {
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

/** Cells of so many CSS pixels in these colours, and frames around those at the positions [y, x]. */
export function paint(canvas, cells, cell, colour, frames = []) {
  const size = cell * SHARPER;
  const gap = cell > 8 ? SHARPER : 0;
  canvas.width = cells[0].length * size;
  canvas.height = cells.length * size;
  const context = canvas.getContext("2d");
  cells.forEach((row, y) =>
    row.forEach((one, x) => {
      if (!one) return;
      context.fillStyle = colour(one.value);
      context.fillRect(x * size, y * size, size - gap, size - gap);
    }),
  );
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--text");
  context.lineWidth = SHARPER * 1.5;
  for (const [y, x] of frames) context.strokeRect(x * size, y * size, size - gap, size - gap);
}

function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16)));
}

const mixed = (from, to, fraction) => `rgb(${from.map((value, i) => Math.round(value + fraction * (to[i] - value))).join()})`;
