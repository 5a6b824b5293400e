// Line charts as SVG, drawn anew for the width they get.

// About `count` round values in [low, high]: steps of 1, 2 or 5 times a power of ten.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const far = (step) => Math.abs(Math.log(step / raw));
  const step = [1, 2, 5, 10].map((m) => m * power).reduce((a, b) => (far(b) < far(a) ? b : a));
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const found = [];
  // Counted from 0: beyond 2^53 adding 1 to a number does not change it.
  for (let i = 0; i <= Math.min(last - first, 100); i += 1) {
    found.push(Number(((first + i) * step).toPrecision(12)));
  }
  return found;
}

function tickText(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  if (size !== 0 && size < 1e-3) return value.toExponential(0);
  return String(Number(value.toPrecision(6)));
}

function range(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - pad, high + pad];
}

function scales(lines, width, height) {
  const box = { left: 46, right: width - 12, top: 10, bottom: height - 24 };
  const points = lines.flatMap((line) => line.points);
  const known = points.filter((p) => p[1] !== null);
  const extremes = lines.length > 1 ? (p) => p[1] : (p) => [p[2], p[3]];
  const [low, high] = known.length ? range(known.flatMap(extremes)) : [0, 1];
  const first = Math.min(...points.map((p) => p[0]));
  const last = Math.max(...points.map((p) => p[0]), first + 1);
  return {
    box, low, high, first, last,
    x: (step) => box.left + ((step - first) / (last - first)) * (box.right - box.left),
    y: (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top),
  };
}

function axes(s, wide) {
  const { box } = s;
  const parts = [];
  for (const value of ticks(s.low, s.high, wide ? 5 : 3)) {
    const y = s.y(value);
    parts.push(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }));
    parts.push(svg("text", { class: "tick", x: box.left - 6, y: y + 4, "text-anchor": "end" },
      tickText(value)));
  }
  const steps = ticks(s.first, s.last, Math.min(8, (box.right - box.left) / 75));
  for (const step of steps.filter(Number.isInteger)) {
    parts.push(svg("text", { class: "tick", x: s.x(step), y: box.bottom + 17,
      "text-anchor": "middle" }, tickText(step)));
  }
  parts.push(svg("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom,
    y2: box.bottom }));
  return parts;
}

// Stretches of points with values; a value that is not finite breaks the line.
function stretches(points) {
  const found = [[]];
  for (const point of points) {
    if (point[1] === null) found.push([]);
    else found[found.length - 1].push(point);
  }
  return found.filter((stretch) => stretch.length);
}

// One line of a figure; the band from lowest to highest only where it is alone.
function path({ run, points }, s, alone) {
  const place = (step, value) => `${s.x(step).toFixed(1)},${s.y(value).toFixed(1)}`;
  const drawn = stretches(points).flatMap((part) => {
    if (part.length === 1) {
      return [svg("circle", { class: "dot", cx: s.x(part[0][0]), cy: s.y(part[0][1]), r: 3 })];
    }
    const upper = part.map((p) => place(p[0], p[3]));
    const lower = part.map((p) => place(p[0], p[2])).reverse();
    const mean = part.map((p) => place(p[0], p[1]));
    return [
      alone ? svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") }) : null,
      svg("polyline", { class: "line", points: mean.join(" ") }),
    ];
  });
  return svg("g", { class: `run-${run % 6}` }, drawn);
}

const swatch = (run) => el("span", { class: `swatch run-${run % 6}`, "aria-hidden": "true" });

function legend(names) {
  return el("ul", { class: "legend" }, names.map((name, i) => el("li", {}, swatch(i), el("span", {}, breakable(name)))));
}

function nearest(points, step) {
  return points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a));
}

function describe(point, perEpoch, alone) {
  if (!alone) return `step ${number(point[0])}`;
  const epoch = perEpoch ? ` (epoch ${(point[0] / perEpoch).toFixed(1)})` : "";
  const spread = point[2] !== point[3] ? `, ${number(point[2])} to ${number(point[3])}` : "";
  return `step ${number(point[0])}${epoch}${spread}`;
}

function summary(series, names) {
  const told = series.lines.map(({ run, points }) => {
    const known = points.filter((p) => p[1] !== null);
    if (!known.length) return `${names[run]}: no finite value`;
    const [first, last] = [known[0], known[known.length - 1]];
    return `${names[run]}: ${number(first[1])} at step ${number(first[0])}, ` +
      `${number(last[1])} at step ${number(last[0])}`;
  });
  return `${series.title}. ${told.join(". ")}`;
}

// A figure with title, last or pointed-at values, meaning or pointed-at place, and the drawing.
function chart(series, names, perEpoch, height) {
  const { lines } = series;
  const alone = names.length === 1;
  const ruler = lines.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
  const value = el("output", { class: "value" });
  const place = el("p", { class: "place" });
  const drawing = svg("svg", { role: "img", tabindex: 0, "aria-label": summary(series, names), height });
  let s = null;
  let cursor = null;
  let at = ruler.length - 1;

  function show(index, pointed) {
    at = Math.max(0, Math.min(ruler.length - 1, index));
    const step = ruler[at][0];
    const found = lines.map(({ run, points }) =>
      [run, pointed ? nearest(points, step) : points[points.length - 1]]);
    value.replaceChildren(...found.map(([run, point]) =>
      el("span", {}, alone ? null : swatch(run), number(point[1]))));
    place.textContent = pointed ? describe(found[0][1], perEpoch[found[0][0]], alone) : series.about;
    cursor.replaceChildren();
    if (!pointed) return;
    const x = s.x(step);
    cursor.append(svg("line", { class: "cursor", x1: x, x2: x, y1: s.box.top, y2: s.box.bottom }));
    cursor.append(...found.filter(([, point]) => point[1] !== null).map(([run, point]) =>
      svg("circle", { class: `dot run-${run % 6}`, cx: s.x(point[0]), cy: s.y(point[1]), r: 4 })));
  }

  function draw(width) {
    s = scales(lines, width, height);
    cursor = svg("g");
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.replaceChildren(...axes(s, height > 200), ...lines.map((line) => path(line, s, alone)), cursor);
    show(ruler.length - 1, false);
  }

  function follow(event) {
    const x = event.clientX - drawing.getBoundingClientRect().left;
    const step = s.first + ((x - s.box.left) / (s.box.right - s.box.left)) * (s.last - s.first);
    show(ruler.indexOf(nearest(ruler, step)), true);
  }

  const rest = () => show(ruler.length - 1, false);
  drawing.addEventListener("pointermove", follow);
  drawing.addEventListener("pointerdown", follow);
  drawing.addEventListener("pointerleave", rest);
  drawing.addEventListener("blur", rest);
  drawing.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -ruler.length, End: ruler.length };
    if (!(event.key in move)) return;
    event.preventDefault();
    show(at + move[event.key], true);
  });
  const head = el("figcaption", {}, el("h3", {}, series.title), value, place);
  const figure = el("figure", { class: alone ? "chart" : "chart many" }, head, drawing);
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== drawn) draw((drawn = width));
  }).observe(figure);
  return figure;
}
