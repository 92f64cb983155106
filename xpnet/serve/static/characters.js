// What characters and probabilities are called.

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };
const NAMES = { " ": "space", "\n": "new line", "\t": "tab" };

/** A sign for the eye. */
export const shown = (character) => SIGNS[character] ?? character;

/** A name for the ear. */
export const named = (character) => NAMES[character] ?? character;

export const percent = (p) => (p > 0.9995 && p < 1 ? "> 99.9 %" : p > 0 && p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
