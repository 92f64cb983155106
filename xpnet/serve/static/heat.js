// Numbers as coloured cells. Blue for negative, orange for positive: told apart by all common kinds of colour vision.

const SHARPER = 2; // canvas pixels for each CSS pixel

/** Cells from blue over neutral to orange, coloured against `largest`. */
export function signed(canvas, rows, cell, largest = peak(rows)) {
  const [neutral, positive, negative] = colours("--neutral", "--positive", "--negative");
  paint(canvas, rows, cell, (value) => {
    const strength = largest > 0 ? Math.min(Math.abs(value) / largest, 1) : 0;
    return mixed(neutral, value > 0 ? positive : negative, strength ** 0.8);
  });
}

/** Grey values 0 to 255, from the page's paper to its ink. */
export function grey(canvas, rows, cell) {
  const [paper, ink] = colours("--card", "--ink");
  paint(canvas, rows, cell, (value) => mixed(paper, ink, value / 255));
}

/** Fractions 0 to 1, from neutral to orange; nothing where there is null. One row may be marked. */
export function fractions(canvas, rows, cell, marked) {
  const [neutral, positive, accent] = colours("--neutral", "--positive", "--accent");
  paint(canvas, rows, cell, (value) => mixed(neutral, positive, value ** 0.6));
  const context = canvas.getContext("2d");
  context.strokeStyle = mixed(accent, accent, 0);
  context.lineWidth = SHARPER;
  const size = cell * SHARPER;
  context.strokeRect(1, marked * size + 1, (marked + 1) * size - 2, size - 2);
}

export const peak = (rows) => Math.max(...rows.map((row) => Math.max(...row.map(Math.abs))));

/** The values of a layer as rows to look at: as they are, as tiles (one for each channel), or a list folded. */
export function arranged(values, shape) {
  if (shape.length === 2) return chunks(values, shape[1]);
  if (shape.length === 3) return tiles(values, shape);
  return chunks(values, columns(values.length));
}

/** The width of a folded list: a divisor that makes it a little wider than high, if there is one. */
function columns(count) {
  if (count <= 12) return count;
  const side = Math.ceil(Math.sqrt(count));
  for (let width = side; width <= 2 * side; width++) if (count % width === 0) return width;
  return side;
}

function chunks(values, width) {
  return Array.from({ length: Math.ceil(values.length / width) }, (_, i) => values.slice(i * width, (i + 1) * width));
}

function tiles(values, [height, width, channels]) {
  const across = Math.ceil(Math.sqrt(channels));
  const rows = Array.from({ length: Math.ceil(channels / across) * (height + 1) - 1 }, () =>
    new Array(across * (width + 1) - 1).fill(0),
  );
  values.forEach((value, i) => {
    const channel = i % channels;
    const x = Math.floor(i / channels) % width;
    const y = Math.floor(i / channels / width);
    rows[Math.floor(channel / across) * (height + 1) + y][(channel % across) * (width + 1) + x] = value;
  });
  return rows;
}

function paint(canvas, rows, cell, colour) {
  const size = cell * SHARPER;
  const gap = cell > 8 ? SHARPER : 0;
  canvas.width = rows[0].length * size;
  canvas.height = rows.length * size;
  const context = canvas.getContext("2d");
  rows.forEach((row, y) =>
    row.forEach((value, x) => {
      if (value === null) return; // no cell
      context.fillStyle = colour(value);
      context.fillRect(x * size, y * size, size - gap, size - gap);
    }),
  );
}

function colours(...names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((name) => style.getPropertyValue(name).match(/[0-9a-f]{2}/gi).map((pair) => parseInt(pair, 16)));
}

const mixed = (from, to, fraction) => `rgb(${from.map((value, i) => Math.round(value + fraction * (to[i] - value))).join()})`;
