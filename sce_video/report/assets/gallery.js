// Queries with their nearest videos: clips that load near the screen and play when asked to.

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const BATCH = 20; // rows that appear at a time

// Clips of all cells; `everything` is the switch that plays what is on the screen.
const stage = { cells: new Map(), everything: false, clips: null, urls: new Map() };

function clipUrl(name) {
  if (!stage.urls.has(name)) {
    const bytes = Uint8Array.from(atob(stage.clips[name]), (c) => c.charCodeAt(0));
    stage.urls.set(name, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return stage.urls.get(name);
}

function settle(cell) {
  const wanted = cell.visible && (cell.pinned || cell.pointed || stage.everything);
  if (wanted === !cell.video.paused) return;
  if (wanted) cell.video.play().catch(() => {}); // a pause may come before it has begun
  else cell.video.pause();
}

// Players are few on phones, so a clip that leaves the screen gives its player back.
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const cell = stage.cells.get(entry.target);
    cell.visible = entry.isIntersecting;
    if (cell.visible && !cell.video.src) {
      cell.video.src = `${clipUrl(cell.name)}#t=0.001`; // Safari shows no first frame without
    } else if (!cell.visible && cell.video.src) {
      cell.video.removeAttribute("src");
      cell.video.load();
    }
    settle(cell);
  }
}, { rootMargin: "150px" });

function placeholder(video, text, reason) {
  return el("div", { class: "player placeholder", title: reason },
    el("span", {}, text), el("small", {}, video.name ?? video.path));
}

function player(name, video, what) {
  if (video.error) return placeholder(video, "cannot be shown", video.error);
  if (!(name in stage.clips)) return placeholder(video, "not in this page");
  const media = el("video", { muted: true, loop: true, playsinline: true, preload: "auto",
    tabindex: -1, "aria-hidden": "true" });
  media.muted = true;
  const button = el("button", { type: "button", class: "player", "aria-pressed": "false",
    "aria-label": `Play ${what}: ${video.class}`, title: video.path }, media);
  const cell = { name, video: media, visible: false, pinned: false, pointed: false };
  const point = (on) => { cell.pointed = on; settle(cell); };
  button.addEventListener("pointerenter", (e) => e.pointerType === "mouse" && point(!calm.matches));
  button.addEventListener("pointerleave", () => point(false));
  button.addEventListener("focus", () => button.matches(":focus-visible") && point(!calm.matches));
  button.addEventListener("blur", () => point(false));
  button.addEventListener("click", () => {
    cell.pinned = !cell.pinned;
    cell.pointed = false;
    button.setAttribute("aria-pressed", String(cell.pinned));
    settle(cell);
  });
  media.addEventListener("error", () => {
    if (!media.hasAttribute("src")) return; // given back, not broken
    button.replaceWith(placeholder(video, "cannot be shown", "this browser cannot play H.264"));
  });
  stage.cells.set(button, cell);
  watcher.observe(button);
  return button;
}

function card(name, video, what, verdict, line) {
  const mark = verdict === null ? null : el("span", { class: "mark", role: "img",
    "aria-label": verdict ? "right class" : "wrong class" }, verdict ? "✓" : "✕");
  const kind = verdict === null ? "query" : verdict ? "right" : "wrong";
  return el("figure", { class: `clip ${kind}` },
    el("div", { class: "frame" }, player(name, video, what), mark),
    el("figcaption", {}, el("span", { class: "class" }, breakable(video.class)), line));
}

function galleryRow(query, videos) {
  const own = videos[query.video];
  const right = query.near.filter((n) => n.right).length;
  const verdict = `${right} of ${query.near.length} right`;
  const near = query.near.map((n, i) => el("li", {},
    card(n.video, videos[n.video], `neighbour ${i + 1}`, n.right,
      el("span", { class: "score", title: "cosine similarity" }, n.score.toFixed(2)))));
  return el("article", { class: "query-row", "aria-label": `Query ${own.class}: ${own.path}` },
    card(query.video, own, "query", null, el("span", { class: "score" }, verdict)),
    el("ol", { class: "near", tabindex: 0, "aria-label": "Nearest videos, nearest first" }, near));
}

function matches(query, videos, filter) {
  const own = videos[query.video];
  if (filter.class && own.class !== filter.class) return false;
  if (filter.show && query.near[0].right !== (filter.show === "right")) return false;
  const rows = [own, ...query.near.map((n) => videos[n.video])];
  const text = rows.map((v) => `${v.class} ${v.path}`).join("\n").toLowerCase();
  return text.includes(filter.q.toLowerCase());
}

// The address keeps the filter, so that a view can be shared: #run=...&class=...&show=wrong&q=...
function fromAddress(runs) {
  const given = new URLSearchParams(location.hash.slice(1));
  const one = (name, known) => (known.includes(given.get(name)) ? given.get(name) : "");
  return { run: one("run", runs.map((run) => run.name)), class: given.get("class") ?? "",
    q: given.get("q") ?? "", show: one("show", ["right", "wrong"]) };
}

function toAddress(filter) {
  const set = Object.entries(filter).filter(([, value]) => value);
  history.replaceState(null, "", `#${set.length ? new URLSearchParams(set) : "gallery"}`);
}

function choice(title, name, options) {
  const select = el("select", { name }, options.map(([value, text]) => el("option", { value }, text)));
  return el("label", {}, el("span", { class: "name" }, title), select);
}

function filterBar(runs, videos, onChange) {
  const queries = runs.flatMap((run) => run.gallery.queries ?? []);
  const classes = [...new Set(queries.map((query) => videos[query.video].class))].sort();
  const kinds = [["", "all"], ["right", "✓ top-1 right"], ["wrong", "✕ top-1 wrong"]];
  const radios = kinds.map(([value, text]) => el("label", {},
    el("input", { type: "radio", name: "show", value }), el("span", {}, text)));
  const search = el("input", { type: "search", name: "q", placeholder: "class or file" });
  const play = el("button", { type: "button", class: "switch", "aria-pressed": "false" },
    "▶ play all visible");
  play.addEventListener("click", () => {
    stage.everything = !stage.everything;
    play.setAttribute("aria-pressed", String(stage.everything));
    stage.cells.forEach(settle);
  });
  const bar = el("form", { class: "filters", role: "search", "aria-label": "Filter the queries" },
    runs.length > 1 ? choice("Run", "run", runs.map((run, i) => [i ? run.name : "", run.name])) : null,
    choice("Query class", "class", [["", "all classes"], ...classes.map((name) => [name, name])]),
    el("fieldset", {}, el("legend", { class: "name" }, "Nearest video"),
      el("div", { class: "segments" }, radios)),
    el("label", {}, el("span", { class: "name" }, "Search"), search), play);
  bar.addEventListener("input", () => onChange(Object.fromEntries(new FormData(bar))));
  bar.addEventListener("submit", (event) => event.preventDefault());
  const put = (filter) => {
    const { elements } = bar;
    for (const name of ["run", "class", "q"]) if (elements[name]) elements[name].value = filter[name];
    for (const radio of elements.show) radio.checked = radio.value === filter.show;
  };
  return { bar, put };
}

function gallery(runs, videos) {
  stage.clips = read("clips");
  const shown = runs.filter((run) => run.gallery);
  const about = el("p", { class: "about" });
  const count = el("p", { class: "count", role: "status" });
  const list = el("div", { class: "rows" });
  const more = el("button", { type: "button", class: "more" });
  let queries = [];
  let found = [];

  function grow() {
    const begin = list.children.length;
    list.append(...found.slice(begin, begin + BATCH).map((q) => galleryRow(q, videos)));
    const left = found.length - list.children.length;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(BATCH, left)} more`;
    const some = left ? `, the first ${list.children.length} shown` : "";
    count.textContent = `${found.length} of ${queries.length} queries match${some}`;
  }

  function apply(filter) {
    watcher.disconnect();
    stage.cells.clear();
    list.replaceChildren();
    const run = shown.find(({ name }) => name === filter.run) ?? shown[0];
    queries = run.gallery.queries ?? [];
    about.textContent = run.gallery.problem ?? run.gallery.note;
    about.className = run.gallery.problem ? "problem" : "about";
    found = queries.filter((q) => matches(q, videos, filter));
    grow();
  }

  const { bar, put } = filterBar(shown, videos, (filter) => { toAddress(filter); apply(filter); });
  bar.hidden = count.hidden = shown.every((run) => run.gallery.problem);
  function follow() {
    const filter = fromAddress(shown);
    put(filter.run === shown[0].name ? { ...filter, run: "" } : filter);
    apply(filter);
  }
  more.addEventListener("click", grow);
  addEventListener("hashchange", () => location.hash.includes("=") && follow());
  follow();
  return [about, bar, count, list, more];
}
