// The page: the text goes to the server, and what the model makes of it is shown.

import { showAttention } from "/static/attention.js";
import { named, percent, shown } from "/static/characters.js";
import { byId, keep, kept } from "/static/page.js";

const AT_ONCE = 4; // characters a request while it writes on
const MANY = 200;
const SENT = 500; // characters of the end of the text: more than a model reads
const SHOWN = 12; // of the likeliest

let model = null;
let writing = false;
let answered = null;
let asked = 0; // counts the questions: an answer that comes late is not shown

async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, body && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The server does not answer. Is xpnet still running?");
  }
  const answer = await response.json().catch(() => ({ error: `the server said ${response.status}` }));
  if (!response.ok) throw new Error(answer.error.replace(/^text: /, "").replace(/^./, (letter) => letter.toUpperCase()));
  return answer;
}

/** Ask what the text's end makes likely, drawing `length` characters first. Gives the answer, null if there was none. */
async function goOn(length) {
  const text = byId("text").value;
  const mine = ++asked;
  try {
    const answer = await ask("/api/text", { text: [...text].slice(-SENT).join(""), length, temperature: Number(byId("temperature").value) });
    if (byId("text").value !== text || (mine !== asked && !length)) return {}; // somebody asks anew meanwhile
    tell("");
    if (length) write(text + answer.written);
    if (mine === asked) {
      answered = answer;
      show();
    } else goOn(0); // of this text nobody has asked yet with what was chosen meanwhile
    return answer;
  } catch (error) {
    if (mine === asked) tell(text ? error.message : "Write at least one character to begin with.");
    return null;
  }
}

/** Say what is wrong, if anything is; what was found about another text is then hidden. */
function tell(problem) {
  byId("problem").textContent = problem;
  byId("writing").classList.toggle("unanswered", problem !== "");
}

function write(text) {
  byId("text").value = text;
  keep("text", text);
  byId("text").scrollTop = byId("text").scrollHeight;
}

function show() {
  showNext(answered.probabilities);
  showAttention(answered);
}

function showNext(probabilities) {
  const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]).slice(0, SHOWN);
  byId("next").replaceChildren(
    ...order.map((i, rank) => {
      const [row, head, track, bar, value] = ["tr", "th", "td", "i", "td"].map((name) => document.createElement(name));
      const character = document.createElement("span");
      Object.assign(character, { textContent: shown(model.characters[i]), ariaHidden: "true" });
      const name = document.createElement("span");
      Object.assign(name, { textContent: named(model.characters[i]), className: "unseen" });
      head.append(character, name);
      head.scope = "row";
      track.className = "track";
      bar.style.width = `${100 * probabilities[i]}%`;
      track.append(bar);
      value.textContent = percent(probabilities[i]);
      row.className = rank ? "" : "best";
      row.append(head, track, value);
      return row;
    }),
  );
  const left = probabilities.length - order.length;
  const rest = 1 - order.reduce((sum, i) => sum + probabilities[i], 0);
  byId("others").textContent = left > 0 ? `The other ${left} characters together: ${percent(Math.max(rest, 0))}` : "";
}

async function writeOn() {
  writing = true;
  byId("many").textContent = "Stop";
  for (let written = 0; writing && written < MANY; written += AT_ONCE) if (!(await goOn(AT_ONCE))) break;
  writing = false;
  byId("many").textContent = `Write ${MANY}`;
  byId("spoken").textContent = `Written: ${byId("text").value.slice(-MANY)}`;
}

byId("many").onclick = () => {
  if (writing) writing = false;
  else writeOn();
};
byId("one").onclick = async () => {
  const answer = await goOn(1);
  if (answer?.written) byId("spoken").textContent = `${named(answer.written)} was drawn`;
};
byId("text").oninput = () => {
  keep("text", byId("text").value);
  goOn(0);
};
byId("temperature").oninput = () => {
  showTemperature();
  goOn(0);
};

function showTemperature() {
  byId("temperature-is").textContent = Number(byId("temperature").value).toFixed(1);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => answered && show());

showTemperature();
try {
  ({ model } = await ask("/api/text/model"));
  byId(model ? "writing" : "none").hidden = false;
  if (model) {
    const { name, parameters, device, characters, context } = model;
    byId("model").textContent = `${name}: ${parameters.toLocaleString("en")} parameters, on ${device}. ` +
      `It knows ${characters.length} characters, and reads the last ${context} of the text.`;
    const known = (text) => text && [...text].every((character) => characters.includes(character));
    write([kept("text"), "Shall I compare thee"].find(known) ?? characters[0]);
    await goOn(0);
  }
} catch (error) {
  byId("writing").hidden = false;
  byId("problem").textContent = error.message;
}
