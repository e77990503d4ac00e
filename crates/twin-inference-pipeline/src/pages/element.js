// Making nodes. Everything that comes from authors, readers and models is put on the page as text, never as HTML.

export const byId = (id) => document.getElementById(id);

export function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function button(className, label, onClick, ...children) {
  const node = element("button", className, ...(children.length ? children : [label]));
  node.type = "button";
  if (children.length) node.setAttribute("aria-label", label);
  node.addEventListener("click", onClick);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

// The initials of a name on a hue of its own; the hues are classes, because the page's policy allows no inline style.
export function portrait(node, name) {
  const initials = name.split(/[\s-]+/).filter(Boolean).map((word) => [...word][0].toUpperCase());
  node.textContent = initials.length > 1 ? initials[0] + initials[initials.length - 1] : (initials[0] ?? "");
  let sum = 0;
  for (const character of name) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  node.className = `portrait hue-${sum % 6}`;
  return node;
}
