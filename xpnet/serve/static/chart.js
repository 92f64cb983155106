// Curves by epoch as SVG, drawn for the width that is there.

const MARGIN = { left: 46, right: 12, top: 10, bottom: 34 };

/** An axis of powers of ten, for values above 0. */
export function logarithmic(values) {
  const logs = values.map(Math.log10);
  const [low, high] = [Math.floor(Math.min(...logs, 0) * 2) / 2, Math.max(Math.ceil(Math.max(...logs, 0) * 2) / 2, 0.5)];
  const every = Math.ceil((high - low) / 6);
  const ticks = [];
  for (let power = Math.ceil(low); power <= high; power += every) ticks.push(10 ** power);
  const name = (value) => (value >= 1e-3 && value < 1e4 ? String(Number(value.toPrecision(1))) : value.toExponential(0));
  return { place: (value) => (Math.log10(value) - low) / (high - low), ticks, name };
}

/** An axis of fractions that grows towards 1: by the logarithm of what is missing. `least` is the smallest that can be
 * missing but 0, such as one sample of all. */
export function towardsOne(values, least) {
  const stretched = (value) => -Math.log10(1 - value + least / 2);
  const [low, high] = [stretched(Math.min(...values, 0.9)), stretched(1)];
  const ticks = [0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1].filter((value) => stretched(value) >= low - 1e-9);
  const name = (value) => `${Math.round(100 * value)} %`;
  return { place: (value) => (stretched(value) - low) / (high - low), ticks, name };
}

/** Curves [{kind, points: [[epoch, value], ...]}] up to epoch `last`, with a mark at `shown`. */
export function draw(svg, curves, axis, last, shown) {
  const { width, height } = svg.getBoundingClientRect();
  const across = (epoch) => MARGIN.left + ((width - MARGIN.left - MARGIN.right) * epoch) / Math.max(last, 1);
  const up = (value) => height - MARGIN.bottom - (height - MARGIN.top - MARGIN.bottom) * axis.place(value);
  const shape = (name, attributes) => made(svg.namespaceURI, name, attributes);
  const text = (content, attributes) => Object.assign(shape("text", attributes), { textContent: content });
  svg.replaceChildren(
    ...axis.ticks.flatMap((value) => [
      shape("line", { class: "rule", x1: MARGIN.left, x2: width - MARGIN.right, y1: up(value), y2: up(value) }),
      text(axis.name(value), { x: MARGIN.left - 6, y: up(value) + 4, "text-anchor": "end" }),
    ]),
    ...epochTicks(last).map((epoch) =>
      text(epoch, { x: across(epoch), y: height - MARGIN.bottom + 16, "text-anchor": "middle" }),
    ),
    text("epoch", { x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 4, "text-anchor": "middle" }),
    ...(shown === null
      ? []
      : [shape("line", { class: "cursor", x1: across(shown), x2: across(shown), y1: MARGIN.top, y2: height - MARGIN.bottom })]),
    ...curves.map(({ kind, points }) =>
      shape("polyline", { class: `${kind}-line`, points: points.map(([epoch, value]) => `${across(epoch)},${up(value)}`).join(" ") }),
    ),
    ...curves.flatMap(({ kind, points }) =>
      points
        .filter(([epoch]) => epoch === shown && kind !== "before")
        .map(([epoch, value]) => shape("circle", { class: `${kind}-line`, cx: across(epoch), cy: up(value), r: 4 })),
    ),
  );
}

/** The epoch under the pointer. */
export function epochAt(svg, event, last) {
  const { left, width } = svg.getBoundingClientRect();
  const part = (event.clientX - left - MARGIN.left) / (width - MARGIN.left - MARGIN.right);
  return Math.round(Math.min(Math.max(part, 0), 1) * last);
}

function epochTicks(last) {
  const every = [1, 2, 5, 10, 20, 50].find((step) => last / step <= 6) ?? 50;
  return Array.from({ length: Math.floor(last / every) + 1 }, (_, i) => i * every);
}

function made(namespace, name, attributes) {
  const element = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
