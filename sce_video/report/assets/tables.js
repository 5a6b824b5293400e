// Tables: of figures, of runs side by side, and of classes, which can be sorted.

const caption = (text) => el("caption", { class: "unseen" }, text);

function figures(title, list) {
  return el("div", { class: "scroll" }, el("table", { class: "figures" }, caption(title),
    el("thead", {}, el("tr", {}, list.map(([name]) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, el("tr", {}, list.map(([, text]) => el("td", {}, text))))));
}

function grid(title, columns, rows, kind) {
  const head = columns.map((name) => el("th", { scope: "col" }, breakable(name)));
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row" }, breakable(row.name)),
    row.cells.map((cell) => el("td", { class: cell.best ? "best" : null }, cell.text,
      cell.best ? el("span", { class: "unseen" }, " (best)") : null))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title },
    el("table", { class: kind }, caption(title),
      el("thead", {}, el("tr", {}, el("td"), head)), el("tbody", {}, body)));
}

// A row a class; the head of a column sorts by it, first downwards, then upwards.
function classTable(title, { columns, shares, rows }) {
  const text = (value, i) => (value === null ? "-" : shares[i]
    ? `${(value * 100).toFixed(1)} %` : value.toLocaleString("en"));
  const drawn = rows.map((row) => [row, el("tr", {}, el("th", { scope: "row" }, breakable(row[0])),
    row.slice(1).map((value, i) => el("td", {}, text(value, i))))]);
  const body = el("tbody", {}, drawn.map(([, node]) => node));
  const heads = ["Class", ...columns].map((name, i) => {
    const button = el("button", { type: "button", class: "sort" }, name);
    const head = el("th", { scope: "col", "aria-sort": i ? null : "ascending" }, button);
    button.addEventListener("click", () => {
      const up = i ? head.getAttribute("aria-sort") === "descending"
        : head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(i, up ? 1 : -1);
    });
    return head;
  });
  function sort(i, sign) {
    const compare = i ? (a, b) => (a ?? -1) - (b ?? -1) : (a, b) => a.localeCompare(b);
    drawn.sort(([a], [b]) => sign * compare(a[i], b[i]) || a[0].localeCompare(b[0]));
    body.append(...drawn.map(([, node]) => node));
  }
  sort(0, 1);
  return details(`Per class: ${rows.length} ${rows.length > 1 ? "classes" : "class"}`,
    el("div", { class: "scroll classes", tabindex: 0, role: "region", "aria-label": title },
      el("table", {}, caption(title), el("thead", {}, el("tr", {}, heads)), body)));
}
