// The page from its data, section by section.

function header(data) {
  const node = document.getElementById("top");
  const facts = data.facts.map(([name, value]) => el("div", {}, el("dt", {}, name),
    el("dd", {}, value)));
  node.append(el("p", { class: "kind" }, "sce-video run"),
    el("h1", {}, data.title),
    el("p", { class: "state", "data-state": data.state }, data.subtitle),
    el("dl", { class: "facts" }, facts));
}

function bars(data) {
  const rows = data.rows.map((row) => {
    const bar = el("span", { class: "bar" });
    bar.style.width = `${Math.max(row.share * 100, 0.4)}%`;
    return el("li", { class: row.best ? "leads" : null }, el("span", { class: "label" }, row.name),
      el("span", { class: "track" }, bar), el("span", { class: "value" }, row.text));
  });
  // The table beside it says the same, so a screen reader need not hear it twice.
  return el("div", { class: "bars", "aria-hidden": "true" },
    el("h3", {}, data.column), el("ul", {}, rows));
}

function comparison(data) {
  const head = data.columns.map((name) => el("th", { scope: "col" }, name));
  const rows = data.rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name),
    row.cells.map((cell) => el("td", { class: cell.best ? "best" : null }, cell.text))));
  const table = el("table", {}, el("caption", { class: "unseen" }, data.title),
    el("thead", {}, el("tr", {}, el("td"), head)), el("tbody", {}, rows));
  section("comparison", "Comparison", el("p", { class: "lead" }, data.title),
    el("div", { class: "pair" }, el("div", { class: "scroll" }, table),
      data.bars && bars(data.bars)),
    data.notes.map((note) => el("p", { class: "about" }, note)));
}

function protocol(data) {
  const items = data.protocol.map(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]);
  const missing = data.missing_samples.length
    ? el("details", {}, el("summary", {}, data.missing),
      el("ul", { class: "missing" }, data.missing_samples.map((name) => el("li", {}, name))))
    : el("p", { class: "about" }, data.missing);
  return [el("dl", { class: "protocol" }, items), missing];
}

function figures(caption, pairs) {
  return el("div", { class: "scroll" }, el("table", { class: "figures" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, pairs.map(([name]) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, el("tr", {}, pairs.map(([, text]) => el("td", {}, text))))));
}

function results(data) {
  const parts = [];
  if (data.retrieval) {
    parts.push(figures("Share of queries with a hit", data.retrieval.figures),
      ...protocol(data.retrieval));
  }
  if (data.knn) {
    parts.push(el("h3", {}, "k nearest neighbours"),
      figures("k nearest neighbours", data.knn.figures), ...protocol(data.knn));
  }
  if (parts.length) section("retrieval", data.retrieval ? "Retrieval" : "Nearest neighbours", parts);
}

function curves(data) {
  const constant = data.constant.map(([name, value]) => `${name} ${number(value)}`).join(", ");
  section("curves", "Curves",
    el("p", { class: "about" }, "By optimizer step. Point at a curve, or use the arrow keys on it.",
      data.thinned ? " Lines are means over stretches of steps, bands their lowest to highest." : ""),
    data.loss && chart(data.loss, data.steps_per_epoch, 280),
    el("div", { class: "multiples" },
      data.others.map((series) => chart(series, data.steps_per_epoch, 150))),
    constant && el("p", { class: "about" }, `Constant: ${constant}.`));
}

function views(uri) {
  section("views", "What the net sees",
    el("p", { class: "about" }, "The first batch after augmentation: a row a clip, its views one ",
      "after the other, their frames side by side."),
    el("div", { class: "scroll" }, el("img", { class: "views", src: uri,
      alt: "Augmented frames of the first batch" })));
}

function configuration(text) {
  section("configuration", "Configuration",
    el("details", {}, el("summary", {}, "The resolved configuration of this run"),
      el("pre", { tabindex: 0 }, text)));
}

const data = read("data");
header(data);
if (data.headline) comparison(data.headline);
if (data.gallery) {
  section("gallery", "Gallery", data.gallery.problem
    ? el("p", { class: "problem" }, data.gallery.problem) : gallery(data.gallery, read("clips")));
}
results(data);
if (data.curves) curves(data.curves);
if (data.views) views(data.views);
if (data.config) configuration(data.config);
// Sections are empty when the browser first looks for the address's target; a filter is one too.
if (location.hash) {
  const target = location.hash.includes("=") ? "gallery" : location.hash.slice(1);
  document.getElementById(target)?.scrollIntoView();
}
