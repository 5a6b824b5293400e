// The page from its data, section by section.

const data = read("data");
const { runs } = data;
const names = runs.map((run) => run.name);
const several = runs.length > 1;
const note = (text) => el("p", { class: "about" }, text);

// Of a single run its parts; of several a part each, to be opened.
function each(build) {
  const parts = runs.map((run) => [run.name, build(run).flat(Infinity).filter(Boolean)]);
  return parts.map(([name, nodes]) => (!several || !nodes.length ? nodes : details(breakable(name), nodes)));
}

function header() {
  const [run] = runs;
  const facts = run.facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  document.getElementById("top").append(
    el("p", { class: "kind" }, several ? "sce-video runs" : "sce-video run"),
    el("h1", {}, several ? `${runs.length} runs side by side` : breakable(run.name)),
    ...(several ? [legend(names)] : [
      el("p", { class: "state", "data-state": run.state }, run.subtitle),
      run.last ? el("p", { class: "last" }, run.last) : "",
      el("dl", { class: "facts" }, facts)]),
    ...runs.flatMap((r) => r.problems.map((text) =>
      el("p", { class: "problem" }, several ? `${r.name}: ${text}` : text))));
}

function headline(table) {
  return [el("p", { class: "lead" }, table.title),
    grid(table.title, table.columns, table.rows), table.notes.map(note)];
}

function comparison() {
  const given = data.comparison;
  if (given) {
    const few = given.configured.length < 2;
    const settings = given.differences.length
      ? grid("In what the configurations differ", given.configured, given.differences, "sides")
      : note(few ? "Fewer than two of them have a configuration." : "All the same.");
    section("comparison", "Comparison", grid("Runs", given.columns, given.rows, "sides"),
      given.notes.map(note), el("h3", {}, "Differences of the configurations"), settings,
      each((run) => (run.headline ? headline(run.headline) : [])));
  } else if (runs[0].headline) section("comparison", "Comparison", headline(runs[0].headline));
}

function result(found) {
  const missing = found.missing_samples.length
    ? details(found.missing, el("ul", { class: "missing" }, found.missing_samples.map((name) => el("li", {}, name))))
    : note(found.missing);
  return [el("h3", {}, found.title), figures(found.title, found.figures), missing,
    found.classes && classTable(`${found.title} per class`, found.classes),
    details("Protocol", pairs(found.protocol))];
}

function results() {
  const shown = each((run) => [run.results.map(result), run.confusion && [
    el("h3", {}, "Confusion"), el("div", { class: "scroll" },
      el("img", { class: "confusion", src: run.confusion, alt: "Confusion matrix of the test" }))]]);
  const empty = "No results yet. They come from sce-video retrieve, knn and test.";
  section("results", "Results", shown.flat().length ? [data.means.map(result), shown] : note(empty));
}

function curves(drawn) {
  const constant = drawn.constant.map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const draw = (series, height) => chart(series, names, drawn.steps_per_epoch, height);
  section("curves", "Curves",
    el("p", { class: "about" }, "By optimizer step. Point at a curve, or use the arrow keys on it.",
      drawn.thinned ? ` Lines are means over stretches of steps${
        several ? "" : ", bands their lowest to highest"}.` : ""),
    several && legend(names),
    drawn.loss && draw(drawn.loss, 280),
    el("div", { class: "multiples" }, drawn.others.map((series) => draw(series, 150))),
    constant && note(`Constant: ${constant}.`));
}

function views() {
  const shown = each((run) => [run.views && el("div", { class: "scroll" },
    el("img", { class: "views", src: run.views, alt: "Augmented frames of the first batch" }))]);
  if (shown.flat().length) {
    section("views", "What the net sees", note("The first batch after augmentation: a row a clip, " +
      "its views one after the other, their frames side by side."), shown);
  }
}

function configuration() {
  const split = (line) => line.match(/^(\S+?):?\s+(.*)$/)?.slice(1) ?? ["", line];
  const shown = each((run) => [
    run.plan.length > 0 && details("Plan and environment", pairs(run.plan.map(split))),
    run.config && details("The resolved configuration", el("pre", { tabindex: 0 }, run.config))]);
  if (shown.flat().length) section("configuration", "Configuration", shown);
}

header();
comparison();
results();
if (runs.some((run) => run.gallery)) section("gallery", "Gallery", gallery(runs, data.videos));
if (data.curves) curves(data.curves);
else section("curves", "Curves", note("No metrics yet: nothing has been logged."));
views();
configuration();
// Sections are empty when the browser first looks for the address's target; a filter is one too.
if (location.hash) {
  const target = location.hash.includes("=") ? "gallery" : location.hash.slice(1);
  document.getElementById(target)?.scrollIntoView();
}
