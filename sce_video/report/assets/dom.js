// Elements from plain calls. Text always goes in as text nodes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function read(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// Fill a section that the template holds, and link to it; sections without content stay hidden.
function section(id, title, ...children) {
  const node = document.getElementById(id);
  node.hidden = false;
  node.setAttribute("aria-labelledby", `${id}-title`);
  node.append(el("h2", { id: `${id}-title` }, title), ...children.flat(Infinity).filter(Boolean));
  document.getElementById("contents").append(el("a", { href: `#${id}` }, title));
  return node;
}

// Names like BoxingPunchingBag and run_with_a_long_name may break between their words.
function breakable(name) {
  const words = name.split(/(?<=[a-z])(?=[A-Z])|(?<=[_.\-/])/);
  return words.flatMap((word, i) => (i ? [el("wbr"), word] : [word]));
}

function details(title, ...children) {
  return el("details", {}, el("summary", {}, title), children);
}

function pairs(list) {
  return el("dl", { class: "protocol" },
    list.map(([name, text]) => [el("dt", {}, breakable(name)), el("dd", {}, text)]));
}

function number(value) {
  if (value === null) return "not finite";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(2);
  if (size >= 1e3) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return String(Number(value.toPrecision(5)));
}
