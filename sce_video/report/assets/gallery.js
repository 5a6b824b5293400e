// Queries with their nearest videos: clips that load near the screen and play when asked to.

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const BATCH = 12; // rows that appear at a time

// Clips of all cells; `everything` is the switch that plays what is on the screen.
const stage = { cells: new Map(), everything: false, clips: null, urls: new Map() };

function clipUrl(row) {
  if (!stage.urls.has(row)) {
    const bytes = Uint8Array.from(atob(stage.clips[row]), (c) => c.charCodeAt(0));
    stage.urls.set(row, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return stage.urls.get(row);
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
      cell.video.src = `${clipUrl(cell.row)}#t=0.001`; // Safari shows no first frame without
    } else if (!cell.visible && cell.video.src) {
      cell.video.removeAttribute("src");
      cell.video.load();
    }
    settle(cell);
  }
}, { rootMargin: "150px" });

function placeholder(name, reason) {
  return el("div", { class: "player placeholder", title: reason },
    el("span", {}, "cannot be shown"), el("small", {}, name));
}

function player(row, video, what) {
  if (video.error) return placeholder(video.name, video.error);
  const media = el("video", { muted: true, loop: true, playsinline: true, preload: "auto",
    tabindex: -1, "aria-hidden": "true" });
  media.muted = true;
  const button = el("button", { type: "button", class: "player", "aria-pressed": "false",
    "aria-label": `Play ${what}: ${video.class}`, title: video.path }, media);
  const cell = { row, video: media, visible: false, pinned: false, pointed: false };
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
    button.replaceWith(placeholder(video.name, "this browser cannot play H.264"));
  });
  stage.cells.set(button, cell);
  watcher.observe(button);
  return button;
}

// Names like BoxingPunchingBag may break between their words.
function className(name) {
  const words = name.split(/(?<=[a-z])(?=[A-Z])/);
  return el("span", { class: "class" }, words.flatMap((word, i) => (i ? [el("wbr"), word] : [word])));
}

function card(row, video, what, verdict, line) {
  const mark = verdict === null ? null : el("span", { class: "mark", role: "img",
    "aria-label": verdict ? "right class" : "wrong class" }, verdict ? "✓" : "✕");
  const kind = verdict === null ? "query" : verdict ? "right" : "wrong";
  return el("figure", { class: `clip ${kind}` },
    el("div", { class: "frame" }, player(row, video, what), mark),
    el("figcaption", {}, className(video.class), line));
}

function galleryRow(query, videos) {
  const own = videos[query.row];
  const right = query.near.filter((n) => n.right).length;
  const verdict = `${right} of ${query.near.length} right`;
  const near = query.near.map((n, i) => el("li", {},
    card(n.row, videos[n.row], `neighbour ${i + 1}`, n.right,
      el("span", { class: "score", title: "cosine similarity" }, n.score.toFixed(2)))));
  return el("article", { class: "query-row", "aria-label": `Query ${own.class}: ${own.path}` },
    card(query.row, own, "query", null, el("span", { class: "score" }, verdict)),
    el("ol", { class: "near", tabindex: 0, "aria-label": "Nearest videos, nearest first" }, near));
}

function matches(query, videos, filter) {
  const own = videos[query.row];
  if (filter.class && own.class !== filter.class) return false;
  if (filter.show && query.near[0].right !== (filter.show === "right")) return false;
  const rows = [own, ...query.near.map((n) => videos[n.row])];
  const text = rows.map((v) => `${v.class} ${v.path}`).join("\n").toLowerCase();
  return text.includes(filter.q.toLowerCase());
}

// The address keeps the filter, so that a view can be shared: #class=...&show=wrong&q=...
function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const show = given.get("show");
  return { class: given.get("class") ?? "", q: given.get("q") ?? "",
    show: ["right", "wrong"].includes(show) ? show : "" };
}

function toAddress(filter) {
  const set = Object.entries(filter).filter(([, value]) => value);
  history.replaceState(null, "", `#${set.length ? new URLSearchParams(set) : "gallery"}`);
}

function filterBar(queries, videos, onChange) {
  const counts = new Map();
  for (const { row } of queries) counts.set(videos[row].class, (counts.get(videos[row].class) ?? 0) + 1);
  const names = [...counts.keys()].sort();
  const select = el("select", { name: "class" }, el("option", { value: "" }, "all classes"),
    names.map((name) => el("option", { value: name }, `${name} (${counts.get(name)})`)));
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
    el("label", {}, el("span", { class: "name" }, "Query class"), select),
    el("fieldset", {}, el("legend", { class: "name" }, "Nearest video"),
      el("div", { class: "segments" }, radios)),
    el("label", {}, el("span", { class: "name" }, "Search"), search), play);
  bar.addEventListener("input", () => onChange(Object.fromEntries(new FormData(bar))));
  bar.addEventListener("submit", (event) => event.preventDefault());
  const put = (filter) => {
    select.value = filter.class;
    search.value = filter.q;
    for (const radio of bar.elements.show) radio.checked = radio.value === filter.show;
  };
  return { bar, put };
}

function gallery(data, clips) {
  stage.clips = clips;
  const { queries, videos } = data;
  const count = el("p", { class: "count", role: "status" });
  const list = el("div", { class: "rows" });
  const more = el("button", { type: "button", class: "more" });
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
    found = queries.filter((q) => matches(q, videos, filter));
    grow();
  }

  const { bar, put } = filterBar(queries, videos, (filter) => { toAddress(filter); apply(filter); });
  function follow() {
    const filter = fromAddress();
    put(filter);
    apply(filter);
  }
  more.addEventListener("click", grow);
  addEventListener("hashchange", () => location.hash.includes("=") && follow());
  follow();
  return [data.note && el("p", { class: "about" }, data.note), bar, count, list, more];
}
