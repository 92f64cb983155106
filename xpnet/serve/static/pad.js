// The drawing pad: strokes as points in units of its side, so that they can be drawn again at any size and colour.

const WIDTH = { pen: 0.055, eraser: 0.13 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SENT = 256; // pixels of the pad's side in the image that is read
const MARGIN = 16; // of paper around it: what touches the border of a photo may be no digit

/** A fraction of that image's side as a fraction of the pad's. */
export const onPad = (fraction) => (fraction * (SENT + 2 * MARGIN) - MARGIN) / SENT;

/** Strokes of the pen, lists of points, as an image. */
export const penned = (strokes) => asImage(strokes.map((points) => ({ tool: "pen", points })));

/** Strokes as a PNG, black on white whatever the page's colours are. */
function asImage(strokes) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SENT + 2 * MARGIN;
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.translate(MARGIN, MARGIN);
  context.rect(0, 0, SENT, SENT); // what is off the pad is not seen there, either
  context.clip();
  for (const stroke of strokes) trace(context, stroke, SENT, stroke.tool === "pen" ? "black" : "white");
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

export class Pad {
  #canvas;
  #nib;
  #strokes = [];
  #before = []; // what #strokes was, for undo
  #pointer = null;
  #cursor = [0.5, 0.2];
  #held = new Set();

  tool = "pen";
  onChange = () => {}; // (done): false while the pen is down
  onPen = () => {}; // (down), for the pen that the keyboard moves

  constructor(canvas, nib) {
    this.#canvas = canvas;
    this.#nib = nib;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.#lift(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => this.#held.delete(event.key));
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.#showNib());
    canvas.addEventListener("blur", () => {
      this.#setPen(false);
      nib.hidden = true;
    });
  }

  get empty() {
    return !this.#strokes.some((stroke) => stroke.tool === "pen");
  }

  get canUndo() {
    return this.#before.length > 0;
  }

  undo() {
    if (!this.canUndo) return;
    this.#strokes = this.#before.pop();
    this.#changed(true);
  }

  /** The drawing: a list of strokes, { tool, points }. */
  get strokes() {
    return this.#strokes;
  }

  /** Put a drawing back that was there before. */
  restore(strokes) {
    this.#strokes = strokes;
    this.redraw();
  }

  clear() {
    if (this.#strokes.length) this.#replace([]);
  }

  /** Put these strokes, lists of points, in the place of what is there. */
  write(strokes) {
    this.#replace(strokes.map((points) => ({ tool: "pen", points })));
  }

  /** The drawing as a PNG. */
  image() {
    return asImage(this.#strokes);
  }

  redraw() {
    const side = this.#canvas.width;
    const context = this.#canvas.getContext("2d");
    const ink = getComputedStyle(this.#canvas).getPropertyValue("--ink");
    context.clearRect(0, 0, side, side);
    for (const stroke of this.#strokes) {
      context.globalCompositeOperation = stroke.tool === "pen" ? "source-over" : "destination-out";
      trace(context, stroke, side, ink);
    }
    context.globalCompositeOperation = "source-over";
  }

  #changed(done) {
    this.redraw();
    this.onChange(done);
  }

  #replace(strokes) {
    this.#setPen(false);
    this.#before.push(this.#strokes);
    this.#strokes = strokes;
    this.#changed(true);
  }

  #begin(point, tool = this.tool) {
    this.#before.push(this.#strokes);
    this.#strokes = [...this.#strokes, { tool, points: [point] }];
  }

  #extend(...points) {
    this.#strokes.at(-1).points.push(...points);
  }

  // Mouse, finger, pen

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #press(event) {
    if (this.#pointer !== null || event.button > 0 && event.button !== 5) return;
    this.#setPen(false);
    this.#nib.hidden = true;
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#begin(this.#place(event), event.button === 5 ? "eraser" : this.tool); // 5: the other end of a pen
    this.#changed(false);
  }

  #drag(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    this.#extend(...(all.length ? all : [event]).map((e) => this.#place(e)));
    this.#changed(false);
  }

  #lift(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#changed(true);
  }

  // Keyboard

  #penDown = false;

  #setPen(down) {
    if (down === this.#penDown) return;
    this.#penDown = down;
    this.#held.clear();
    this.#nib.classList.toggle("down", down);
    if (down) this.#begin([...this.#cursor]);
    this.#changed(!down);
    this.onPen(down);
  }

  #key(event) {
    if (event.key === " ") this.#setPen(!this.#penDown);
    else if (event.key in ARROWS) this.#move(event);
    else return;
    event.preventDefault();
    this.#showNib();
  }

  #showNib() {
    this.#nib.hidden = false;
    this.#nib.style.left = `${100 * this.#cursor[0]}%`;
    this.#nib.style.top = `${100 * this.#cursor[1]}%`;
  }

  #move(event) {
    this.#held.add(event.key);
    const step = event.shiftKey ? 0.008 : 0.025;
    for (const key of this.#held) {
      for (const axis of [0, 1]) {
        const moved = this.#cursor[axis] + step * ARROWS[key][axis];
        this.#cursor[axis] = Math.min(Math.max(moved, 0.02), 0.98);
      }
    }
    if (!this.#penDown) return;
    this.#extend([...this.#cursor]);
    this.#changed(false);
  }
}

/** One stroke as a smooth curve through the middles between its points. */
function trace(context, { tool, points }, side, colour) {
  context.strokeStyle = colour;
  context.lineWidth = WIDTH[tool] * side;
  context.lineCap = context.lineJoin = "round";
  const at = (i) => points[i].map((n) => n * side);
  context.beginPath();
  context.moveTo(...at(0));
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = at(i);
    const [nextX, nextY] = at(i + 1);
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  context.lineTo(...at(points.length - 1));
  if (points.length === 1) context.lineTo(at(0)[0] + 0.01, at(0)[1]); // a line without a length would not be painted
  context.stroke();
}
