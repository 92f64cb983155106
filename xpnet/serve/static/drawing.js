// The network as a drawing: a station for the image, for each layer and for the loss, joined as the numbers go.

import { peak } from "/static/heat.js";
import { number } from "/static/page.js";

const WIDEST = 92; // of a station
const NARROWEST = 55;
const HIGH = 150;
const MIDDLE = 70; // the height at which the numbers go
const LEVELS = 5; // of colour, either way

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export class Drawing {
  #holder;
  #choose;
  #stations = [];
  #lines = [];
  #wide = WIDEST;

  constructor(holder, choose) {
    this.#holder = holder;
    this.#choose = choose;
  }

  /** Draw the way of this image. */
  make(walk, model, pixels) {
    const room = Math.floor(this.#holder.clientWidth / (walk.stations.length + 2));
    const wide = (this.#wide = Math.max(Math.min(room, WIDEST), NARROWEST));
    const layers = walk.stations.map((station) => layer(station, model, wide));
    const stations = [image(pixels, walk.gradient.numbers[0], wide), ...layers, loss(walk, wide)];
    const width = wide * stations.length;
    this.#lines = lines(walk, wide);
    this.#stations = stations.map(({ kind, shape, says, parts }, i) => {
      const group = svg(
        "g", { class: "stop", role: "tab", id: `station-${i}`, "aria-label": says, "aria-controls": "station" },
        svg("rect", { class: "frame", x: 1, y: 14, width: wide - 2, height: HIGH - 16, rx: 8 }),
        ...parts,
        ...name(kind, HIGH - 24, wide),
        label(shape, HIGH - 9, "shape", wide),
      );
      group.setAttribute("transform", `translate(${i * wide} 0)`);
      group.addEventListener("click", () => this.#choose(i));
      group.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        this.#choose(i);
      });
      return group;
    });
    const under = svg("g", { role: "none", "aria-hidden": "true" }, ...this.#lines.map(({ path }) => path));
    const drawing = this.#holder.querySelector("svg");
    for (const [name, value] of Object.entries({ width, height: HIGH })) drawing.setAttribute(name, value);
    drawing.replaceChildren(under, ...this.#stations);
  }

  /** Show at which station the walk is, and how far the numbers have come. */
  mark(at, backward) {
    const hadFocus = this.#holder.contains(document.activeElement);
    this.#stations.forEach((group, i) => {
      group.setAttribute("aria-selected", String(i === at));
      group.setAttribute("tabindex", i === at ? 0 : -1);
    });
    for (const { path, to } of this.#lines) {
      path.classList.toggle("done", !backward && to <= at);
      path.classList.toggle("back", backward && to > at);
    }
    this.#holder.classList.toggle("backward", backward);
    const left = (at + 0.5) * this.#wide - this.#holder.clientWidth / 2;
    this.#holder.scrollTo({ left, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    if (hadFocus) this.#stations[at].focus({ preventScroll: true });
    document.getElementById("station").setAttribute("aria-labelledby", `station-${at}`);
  }
}

/** A text of a station; one that is too long is set narrower. `around`: the room to leave, of both sides together. */
function label(text, y, name, wide, around = 6) {
  const most = wide - around;
  const narrow = text.length * 7 > most ? { textLength: Math.min(most, text.length * 6.5), lengthAdjust: "spacingAndGlyphs" } : {};
  return svg("text", { x: wide / 2, y, class: name, ...narrow }, text);
}

/** The name of a layer; of one that is much too long, "MultiHead" over "Attention". */
function name(kind, y, wide) {
  const parts = kind.length * 7 > 1.4 * wide ? kind.match(/^(.*[a-z])([A-Z][a-z]+.*)$/)?.slice(1) ?? [kind] : [kind];
  return parts.map((part, i) => label(part, y - 12 * (parts.length - 1 - i), "kind", wide));
}

/** A line from each station to those that take its numbers; one that leaves some out goes over them. */
function lines({ stations }, wide) {
  const pairs = stations.flatMap(({ sources }, i) => sources.map((source) => [source + 1, i + 1]));
  return [...pairs, [stations.length, stations.length + 1]].map(([from, to]) => {
    const [x0, x1] = [(from + 1) * wide - 8, to * wide + 8];
    const over = `M${x0 - 16} 30 C${x0 + 14} 2 ${x1 - 14} 2 ${x1 + 16} 30`;
    const along = `M${x0} ${MIDDLE} H${x1}`;
    return { from, to, path: svg("path", { class: "line", d: to - from > 1 ? over : along }) };
  });
}

function image(pixels, gradient, wide) {
  const shape = `${pixels[0].length} × ${pixels.length}`;
  const [x, y] = [(wide - 46) / 2, MIDDLE - 23];
  const largest = peak(gradient) || 1;
  const parts = [
    svg("g", { class: "values" }, ...cells(pixels, x, y, 46, (value) => `g${Math.round((LEVELS * value) / 255)}`)),
    svg("g", { class: "gradient" }, ...cells(gradient, x, y, 46, (value) => level((100 * value) / largest))),
  ];
  return { kind: "Image", shape, says: `Image, ${shape} pixels`, parts };
}

function loss({ loss: value }, wide) {
  const box = svg("rect", { class: "box", x: 7, y: MIDDLE - 18, width: wide - 14, height: 36, rx: 6 });
  const text = label(number(value), MIDDLE + 4, "number", wide, 18);
  return { kind: "Loss", shape: "1 number", says: `Loss, ${number(value)}`, parts: [box, text] };
}

/** A layer: its first map or its row of numbers, in one colour scheme for its values and one for their gradients. */
function layer({ kind, shape, preview, gradient_preview: gradient }, model, wide) {
  const name = shape.join(" × ");
  const both = [[preview, "values"], [gradient, "gradient"]];
  const parts = both.map(([maps, what]) => svg("g", { class: what }, ...glyph(maps, shape, model, wide)));
  return { kind, shape: shape.join("×"), says: `${kind}, ${name}`, parts };
}

const level = (percent) => {
  const step = Math.ceil((LEVELS * Math.abs(percent)) / 100);
  return step === 0 ? "z" : `${percent > 0 ? "p" : "n"}${step}`;
};

function glyph(maps, shape, model, wide) {
  if (maps[0].length === 1) return row(maps[0][0], shape.at(-1) === model.classes.length ? model.classes : [], wide);
  const side = Math.max(Math.min(14 + maps[0].length * 2.2, 44), 20);
  const [x, y] = [(wide - side) / 2 - 2 * (maps.length - 1), MIDDLE - side / 2 + 2 * (maps.length - 1)];
  const behind = maps.slice(1).map((_, i) => {
    const off = 4 * (maps.length - 1 - i);
    return svg("rect", { class: "behind", x: x + off, y: y - off, width: side, height: side });
  });
  return [...behind, ...cells(maps[0], x, y, side, level)];
}

/** A list of numbers, one below the other, with the names of the classes where it has one for each. */
function row(values, names, wide) {
  const step = Math.min(88 / values.length, 9);
  const top = MIDDLE - (step * values.length) / 2;
  return values.flatMap((value, i) => {
    const [x, y] = [wide / 2, top + (i + 0.5) * step];
    const dot = svg("circle", { class: level(value), cx: x, cy: y, r: step / 2 - 0.4 });
    return names.length ? [dot, svg("text", { x: x + 9, y: y + 3, class: "digit" }, names[i])] : [dot];
  });
}

/** A map in the middle of a square: a path for each colour. */
function cells(rows, left, top, side, colour) {
  const size = side / Math.max(rows.length, rows[0].length);
  const [width, height] = [rows[0].length * size, rows.length * size];
  const [x, y] = [left + (side - width) / 2, top + (side - height) / 2];
  const paths = {};
  rows.forEach((values, i) =>
    values.forEach((value, j) => {
      const name = colour(value);
      const at = `M${(x + j * size).toFixed(2)} ${(y + i * size).toFixed(2)}`;
      paths[name] = `${paths[name] ?? ""}${at}h${size.toFixed(2)}v${size.toFixed(2)}h${-size.toFixed(2)}z`;
    }),
  );
  const drawn = Object.entries(paths).map(([name, d]) => svg("path", { class: name, d }));
  return [...drawn, svg("rect", { class: "edge", x, y, width, height })];
}
