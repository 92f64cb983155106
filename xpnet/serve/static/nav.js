// The links between the pages, in the header of each.

const PAGES = { "/": "Draw", "/network": "Network", "/train": "Train", "/text": "Text", "/docs": "JSON API" };

const nav = document.createElement("nav");
nav.ariaLabel = "Pages";
for (const [path, name] of Object.entries(PAGES)) {
  const link = Object.assign(document.createElement("a"), { href: path, textContent: name });
  if (path === location.pathname) link.ariaCurrent = "page";
  nav.append(link);
}
document.querySelector("header").append(nav);
