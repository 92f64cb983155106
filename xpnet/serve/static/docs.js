// /openapi.json as a page.

const escaped = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
const text = (value) => String(value ?? "").replace(/[&<>]/g, (sign) => escaped[sign]);
const prose = (value) => text(value).replace(/`([^`]+)`/g, "<code>$1</code>");

const api = await (await fetch("/openapi.json")).json();
const resolved = (schema) => (schema.$ref ? api.components.schemas[schema.$ref.split("/").at(-1)] : schema);

const KINDS = { string: "text", integer: "whole number", number: "number", boolean: "true or false", object: "object", null: "null" };

/** What a value is, in a few words. */
function kind(schema) {
  const known = resolved(schema);
  if (known.anyOf) return known.anyOf.map(kind).join(" or ");
  if (known.prefixItems) return `${known.prefixItems.length} numbers`;
  if (known.type !== "array") return KINDS[known.type];
  const inner = resolved(known.items);
  if (inner.type !== "array") return `list of ${kind(inner)}s`;
  return inner.items.type === "array" ? `maps, ${kind(inner)}` : `rows of ${kind(inner.items)}s`;
}

/** The fields of an object, and of the objects in it. */
function fields(schema) {
  const { properties = {} } = resolved(schema);
  const rows = Object.entries(properties).map(([name, field]) => {
    const object = [field.items ?? field, ...(field.anyOf ?? [])].find((known) => known.$ref);
    const inside = object ? fields(object) : "";
    return `<dt><code>${text(name)}</code><i>${text(kind(field))}</i></dt><dd>${prose(field.description ?? resolved(field).description)}${inside}</dd>`;
  });
  return rows.length ? `<dl>${rows.join("")}</dl>` : "";
}

function content(title, { content: types, description }) {
  const [type, { schema }] = Object.entries(types)[0];
  const shown = type === "application/json" ? resolved(schema).description : `The bytes of an image (${Object.keys(types).join(", ")}).`;
  return `<h3>${title}</h3><p>${prose(shown ?? description)}</p>${fields(schema)}`;
}

function section([path, [method, route]]) {
  const refusals = Object.keys(route.responses).filter((code) => code !== "200");
  return `<section>
    <h2><span class="method">${text(method.toUpperCase())}</span><code>${text(path)}</code></h2>
    <p>${prose(route.summary)}. ${prose(route.description)}</p>
    ${route.requestBody ? content("Send", route.requestBody) : ""}
    ${content("Get back", route.responses["200"])}
    ${refusals.length ? `<p class="refusals">Refusals: ${refusals.join(", ")}, each with <code>{"error": "one line"}</code>.</p>` : ""}
  </section>`;
}

const routes = Object.entries(api.paths).map(([path, methods]) => [path, Object.entries(methods)[0]]);
document.getElementById("about").innerHTML = prose(api.info.description);
document.getElementById("try").textContent = [
  `curl --data-binary @photo.jpg ${location.origin}/api/read`,
  `curl ${location.origin}/api/model`,
].join("\n");
document.querySelector("main").insertAdjacentHTML("beforeend", routes.map(section).join(""));
