// The JSON API of this server. Whatever goes wrong is thrown as an Error whose message is fit to be shown.

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(30_000), ...options });
  } catch {
    throw new Error("The server does not answer. Is xpnet still running?");
  }
  const answer = await response.json().catch(() => ({ error: `the server said ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

export const about = () => ask("/api/model");

export const read = (image) => ask("/api/read", { method: "POST", body: image });

const asked = (path, question) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) });

export const explain = (pixels, answer, against) => asked("/api/explain", { pixels, answer, against });

export const walk = (pixels, target) => asked("/api/walk", { pixels, target });

export const layer = (pixels, target, layer) => asked("/api/walk/layer", { pixels, target, layer });

export const unit = (pixels, target, layer, unit) => asked("/api/walk/unit", { pixels, target, layer, unit });
