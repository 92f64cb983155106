// An answer that comes line by line, each an object in JSON.

/** The lines of what POST `path` answers. Throws an Error whose message is fit to be shown. */
export async function* lines(path, body, signal) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch (error) {
    throw unreachable(error);
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({ error: `the server said ${response.status}` }));
    throw new Error(answer.error);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw unreachable(error);
    });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

const unreachable = (error) =>
  error.name === "AbortError" ? error : new Error("The server does not answer. Is xpnet still running?");
