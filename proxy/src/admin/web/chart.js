// Curves: what was seen of a session or of all, and how it is drawn. Nothing is kept but here.

// What is kept, and the least that is shown: a curve that has just begun is not squeezed into a corner.
const WINDOW = 5 * 60_000;
const LEAST = 60_000;

// A speed is a mean over this time: a server sends in bursts.
const SPEED_OVER = 3_000;

const SVG = "http://www.w3.org/2000/svg";

// The figures of the last minutes, the oldest first.
export class History {
  points = [];

  add(time, { drained, fed, backlog }) {
    const last = this.points.at(-1);
    // A clock that was put back, or another process: what was before says nothing.
    if (last && (time <= last.time || drained < last.drained || fed < last.fed)) {
      this.points = [];
    }
    const since = this.points.findLast((point) => time - point.time >= SPEED_OVER) ?? this.points[0];
    const seconds = since ? (time - since.time) / 1000 : 0;
    this.points.push({
      time,
      drained,
      fed,
      backlog,
      drainSpeed: seconds ? (drained - since.drained) / seconds : 0,
      feedSpeed: seconds ? (fed - since.fed) / seconds : 0,
    });
    // The first point knows no speed of its own.
    if (this.points.length === 2) {
      const [first, { drainSpeed, feedSpeed }] = this.points;
      Object.assign(first, { drainSpeed, feedSpeed });
    }
    // One point more than is shown, so that the curve reaches the edge.
    while (this.points.length > 2 && time - this.points[1].time > WINDOW) {
      this.points.shift();
    }
  }

  get last() {
    return this.points.at(-1);
  }
}

const WIDTH = 600;
const HEIGHT = 100;

// Milliseconds from the left edge to the right one.
function spanOf(points) {
  return Math.min(Math.max(points.at(-1).time - points[0].time, LEAST), WINDOW);
}

function scale(points, top) {
  const [end, span] = [points.at(-1).time, spanOf(points)];
  return (point, value) => {
    const x = WIDTH - ((end - point.time) / span) * WIDTH;
    return `${x.toFixed(1)} ${(HEIGHT - (value / (top || 1)) * HEIGHT).toFixed(1)}`;
  };
}

function curve(points, place, value) {
  return points.length < 2 ? "" : `M${points.map((point) => place(point, value(point))).join("L")}`;
}

function area(points, place, value) {
  if (points.length < 2) {
    return "";
  }
  const [first, last] = [points[0], points.at(-1)];
  return `${curve(points, place, value)}L${place(last, 0)}L${place(first, 0)}Z`;
}

function largest(points, values) {
  return points.reduce((most, point) => Math.max(most, ...values.map((value) => value(point))), 0);
}

const drainSpeed = (point) => point.drainSpeed;
const feedSpeed = (point) => point.feedSpeed;
const backlog = (point) => point.backlog;

function svg(className, ...classes) {
  const element = document.createElementNS(SVG, "svg");
  element.setAttribute("class", className);
  element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  element.setAttribute("preserveAspectRatio", "none");
  element.setAttribute("role", "img");
  const parts = classes.map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    element.append(path);
    return path;
  });
  return [element, ...parts];
}

function text(className) {
  const element = document.createElement("span");
  element.className = className;
  return element;
}

function row(className, ...children) {
  const element = document.createElement("div");
  element.className = className;
  element.append(...children);
  return element;
}

// Two curves of speed above one of the backlog. `bytes` and `speed` put figures into words.
export class Chart {
  constructor({ bytes, speed }) {
    this.words = { bytes, speed };
    this.history = new History();
    [this.speeds, this.ground, this.drained, this.fed, this.cursor] = svg(
      "speed", "ground", "drained", "fed", "cursor");
    [this.store, this.storeGround, this.area, this.backlog, this.storeCursor] = svg(
      "store", "ground", "backlog-area", "backlog", "cursor");
    for (const ground of [this.ground, this.storeGround]) {
      ground.setAttribute("d", `M0 0H${WIDTH}M0 ${HEIGHT}H${WIDTH}`);
    }
    this.legend = ["key drained", "key fed"].map(text);
    this.storeLegend = ["key backlog"].map(text);
    this.tops = ["top", "top"].map(text);
    this.span = ["", ""].map(text);
    this.element = row("chart",
      row("legend", ...this.legend), row("plot", this.speeds, this.tops[0]),
      row("legend", ...this.storeLegend), row("plot", this.store, this.tops[1]),
      row("span", ...this.span));
    this.at = null;
    for (const part of [this.speeds, this.store]) {
      part.addEventListener("pointermove", (event) => this.point(event));
      part.addEventListener("pointerdown", (event) => this.point(event));
      part.addEventListener("pointerleave", () => this.leave());
    }
  }

  point(event) {
    const { left, width } = this.speeds.getBoundingClientRect();
    this.at = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    this.draw();
  }

  leave() {
    this.at = null;
    this.draw();
  }

  draw() {
    const { points, last } = this.history;
    if (!last) {
      return;
    }
    const { bytes, speed } = this.words;
    const fastest = largest(points, [drainSpeed, feedSpeed]);
    const fullest = largest(points, [backlog]);
    this.element.classList.toggle("quiet", fastest === 0 && fullest === 0);
    const ofSpeed = scale(points, fastest);
    const ofStore = scale(points, fullest);
    this.drained.setAttribute("d", curve(points, ofSpeed, drainSpeed));
    this.fed.setAttribute("d", curve(points, ofSpeed, feedSpeed));
    this.area.setAttribute("d", area(points, ofStore, backlog));
    this.backlog.setAttribute("d", curve(points, ofStore, backlog));

    const shown = this.shown();
    write(this.legend, [`drained ${speed(shown.drainSpeed)}`, `fed ${speed(shown.feedSpeed)}`]);
    write(this.storeLegend, [`backlog ${bytes(shown.backlog)}`]);
    write(this.tops, [fastest ? speed(fastest) : "", fullest ? bytes(fullest) : ""]);
    const span = spanOf(points);
    write(this.span, [ago(span), this.at === null ? "now" : ago(last.time - shown.time)]);
    this.speeds.setAttribute("aria-label", `drained ${speed(last.drainSpeed)}, fed ${speed(last.feedSpeed)}`);
    this.store.setAttribute("aria-label", `backlog ${bytes(last.backlog)}`);
    const x = WIDTH - ((last.time - shown.time) / span) * WIDTH;
    for (const cursor of [this.cursor, this.storeCursor]) {
      cursor.setAttribute("d", this.at === null ? "" : `M${x.toFixed(1)} 0V${HEIGHT}`);
    }
  }

  // The point under the pointer, or the last one.
  shown() {
    const { points, last } = this.history;
    if (this.at === null) {
      return last;
    }
    const time = last.time - (1 - this.at) * spanOf(points);
    return points.reduce((near, point) =>
      Math.abs(point.time - time) < Math.abs(near.time - time) ? point : near);
  }
}

// A small curve of the backlog alone.
export class Spark {
  constructor() {
    [this.element, this.area, this.line] = svg("spark", "backlog-area", "backlog");
    this.element.setAttribute("aria-hidden", "true");
  }

  draw({ points }) {
    const fullest = largest(points, [backlog]);
    this.element.classList.toggle("quiet", fullest === 0);
    const place = scale(points, fullest);
    this.area.setAttribute("d", area(points, place, backlog));
    this.line.setAttribute("d", curve(points, place, backlog));
  }
}

function ago(ms) {
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
}

function write(elements, texts) {
  elements.forEach((element, index) => {
    if (element.textContent !== texts[index]) {
      element.textContent = texts[index];
    }
  });
}
