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
