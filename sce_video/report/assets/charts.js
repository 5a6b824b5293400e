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
  for (let i = first; i <= last; i += 1) found.push(Number((i * step).toPrecision(12)));
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

function scales(points, width, height) {
  const box = { left: 46, right: width - 12, top: 10, bottom: height - 24 };
  const known = points.filter((p) => p[1] !== null);
  const [low, high] = known.length ? range(known.flatMap((p) => [p[2], p[3]])) : [0, 1];
  const first = points[0][0];
  const last = Math.max(points[points.length - 1][0], first + 1);
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

function lines(points, s) {
  const place = (step, value) => `${s.x(step).toFixed(1)},${s.y(value).toFixed(1)}`;
  return stretches(points).flatMap((part) => {
    if (part.length === 1) {
      return [svg("circle", { class: "dot", cx: s.x(part[0][0]), cy: s.y(part[0][1]), r: 3 })];
    }
    const upper = part.map((p) => place(p[0], p[3]));
    const lower = part.map((p) => place(p[0], p[2])).reverse();
    const mean = part.map((p) => place(p[0], p[1]));
    return [
      svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
      svg("polyline", { class: "line", points: mean.join(" ") }),
    ];
  });
}

function describe(point, perEpoch) {
  const epoch = perEpoch ? ` (epoch ${(point[0] / perEpoch).toFixed(1)})` : "";
  const spread = point[2] !== point[3] ? `, ${number(point[2])} to ${number(point[3])}` : "";
  return `step ${number(point[0])}${epoch}${spread}`;
}

function summary(series) {
  const known = series.points.filter((p) => p[1] !== null);
  if (!known.length) return `${series.title}: no finite value`;
  const [first, last] = [known[0], known[known.length - 1]];
  return `${series.title}: ${number(first[1])} at step ${number(first[0])}, ` +
    `${number(last[1])} at step ${number(last[0])}`;
}

// A figure with title, last or pointed-at value, meaning or pointed-at place, and the drawing.
function chart(series, perEpoch, height) {
  const { points } = series;
  const value = el("output", { class: "value" });
  const place = el("p", { class: "place" });
  const drawing = svg("svg", { role: "img", tabindex: 0, "aria-label": summary(series), height });
  let s = null;
  let cursor = null;
  let at = points.length - 1;

  function show(index, pointed) {
    at = Math.max(0, Math.min(points.length - 1, index));
    const point = points[at];
    value.textContent = number(point[1]);
    place.textContent = pointed ? describe(point, perEpoch) : series.about;
    cursor.replaceChildren();
    if (!pointed) return;
    const x = s.x(point[0]);
    cursor.append(svg("line", { class: "cursor", x1: x, x2: x, y1: s.box.top, y2: s.box.bottom }));
    if (point[1] !== null) {
      cursor.append(svg("circle", { class: "dot", cx: x, cy: s.y(point[1]), r: 4 }));
    }
  }

  function draw(width) {
    s = scales(points, width, height);
    cursor = svg("g");
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.replaceChildren(...axes(s, height > 200), ...lines(points, s), cursor);
    show(points.length - 1, false);
  }

  function nearest(event) {
    const x = event.clientX - drawing.getBoundingClientRect().left;
    let best = 0;
    points.forEach((p, i) => {
      if (Math.abs(s.x(p[0]) - x) < Math.abs(s.x(points[best][0]) - x)) best = i;
    });
    show(best, true);
  }

  const rest = () => show(points.length - 1, false);
  drawing.addEventListener("pointermove", nearest);
  drawing.addEventListener("pointerdown", nearest);
  drawing.addEventListener("pointerleave", rest);
  drawing.addEventListener("blur", rest);
  drawing.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -points.length, End: points.length };
    if (!(event.key in move)) return;
    event.preventDefault();
    show(at + move[event.key], true);
  });
  const head = el("figcaption", {}, el("h3", {}, series.title), value, place);
  const figure = el("figure", { class: "chart" }, head, drawing);
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== drawn) draw((drawn = width));
  }).observe(figure);
  return figure;
}
