// What the modules of all pages use.

export const byId = (id) => document.getElementById(id);

export const percent = (p) => (p > 0.9995 ? "> 99.9 %" : p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);

/** A number with about four digits, as one would write it. */
export function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  const small = size < 0.0005;
  const text = small || size >= 1e6 ? value.toExponential(2) : value.toFixed(size < 100 ? 4 : size < 1000 ? 2 : 0);
  return text.replaceAll("-", "−");
}

/** Whether the network gives probabilities itself, as one does that ends in Softmax. */
export const givesProbabilities = ({ outputs, probabilities }) => outputs.every((y, i) => y === probabilities[i]);

// What stays while the tab is open, so that a reload or a look at another page loses nothing. Where the browser forbids
// that, or has no room for it, nothing stays.

export function keep(name, value) {
  try {
    sessionStorage.removeItem(`xpnet ${name}`); // without room for the new value, the old one would come back
    sessionStorage.setItem(`xpnet ${name}`, JSON.stringify(value));
  } catch {
    // nothing depends on it
  }
}

/** What was kept; null if nothing was. */
export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(`xpnet ${name}`));
  } catch {
    return null;
  }
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A table of numbers. `rows` and `sums`, those below a line: { cells, className }. */
export function table(titles, rows, sums = []) {
  const row = ({ cells, className = "" }) => {
    const made = element("tr", { className }, element("th", { scope: "row", textContent: cells[0] }));
    made.append(...cells.slice(1).map((text) => element("td", { textContent: text })));
    return made;
  };
  const head = element("tr", {}, ...titles.map((text) => element("th", { scope: "col", textContent: text })));
  return element(
    "table", { className: "numbers" },
    element("thead", {}, head), element("tbody", {}, ...rows.map(row)), element("tfoot", {}, ...sums.map(row)),
  );
}

let speaking;

/** Say it to a screen reader, once it has not changed for a moment. */
export function speak(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => (byId("spoken").textContent = text), 500);
}
