// The page: asks for all figures each second and shows them. Whatever comes from a session (names of users, programs,
// tables) is others' data, and goes into the page as text only.

import { Chart, Spark } from "/chart.js";

const PERIOD = 1_000;
const PATIENCE = 5_000;

// More than this, and a table says more than cards do.
const MANY = 24;
// Fewer than this, and nobody needs a filter.
const SOME = 8;

const byId = (id) => document.getElementById(id);

// Words

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytes(number) {
  let unit = 0;
  while (number >= 1000 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number.toFixed(unit === 0 || number >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}

const speed = (number) => `${bytes(number)}/s`;

function time(ms) {
  const seconds = ms / 1000;
  if (seconds < 9.95) {
    return `${seconds.toFixed(1)} s`;
  }
  if (seconds < 99.5) {
    return `${Math.round(seconds)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) {
    return `${minutes} min ${Math.floor(seconds % 60)} s`;
  }
  if (minutes < 100) {
    return `${minutes} min`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const count = (number) => number.toLocaleString("en").replaceAll(",", "\u202f");

function rowsOf(number) {
  const [short, unit] = number < 1e6 ? [count(number), ""] : number < 1e9 ? [(number / 1e6).toFixed(1), " M"] : [(number / 1e9).toFixed(1), " G"];
  return `${short}${unit} ${number === 1 ? "row" : "rows"}`;
}

// Elements

function set(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) {
    made.className = className;
  }
  made.append(...children);
  return made;
}

// What is cut off for want of room is told on hover.
function setLong(element, text) {
  set(element, text);
  if (element.title !== text) {
    element.title = text;
  }
}

// Sessions

const STATES = {
  login: "logging in",
  idle: "idle",
  waiting: "waiting",
  feeding: "feeding",
};

// One session: its figures, and how it is shown in either view.
class Session {
  constructor(id) {
    this.id = id;
    this.chart = new Chart({ bytes, speed });
    this.history = this.chart.history;
  }

  update(now, snapshot) {
    const before = this.snapshot;
    // The server waits at a limit of the spool, or did in the last second.
    this.isHeldBack = before !== undefined && snapshot.held_back_ms > before.held_back_ms;
    this.snapshot = snapshot;
    this.history.add(now, snapshot);
  }

  get who() {
    return this.snapshot.program ?? this.snapshot.user ?? "client";
  }

  get way() {
    const { client, via, upstream, route } = this.snapshot;
    const from = via ? `${client} by ${via}` : client;
    return `${from} → ${upstream ?? "…"}${route ? ` (${route})` : ""}`;
  }

  get words() {
    const { subject, state, attempts } = this.snapshot;
    const attempt = attempts > 1 ? `, attempt ${attempts}` : "";
    return subject ?? (state === "login" ? `not logged in yet${attempt}` : "no statement yet");
  }

  matches(filter) {
    const { user, program, client, upstream, subject, route, state } = this.snapshot;
    return [user, program, client, upstream, subject, route, state, `#${this.id}`]
      .some((text) => text?.toLowerCase().includes(filter));
  }

  showState(pill) {
    const { state } = this.snapshot;
    pill.className = `pill ${this.isHeldBack ? "warn" : state}`;
    set(pill, this.isHeldBack ? "held back" : STATES[state] ?? state);
    pill.title = this.isHeldBack ? "The spool is full: the server waits for the client" : "";
  }
}

class Card {
  constructor(session) {
    this.session = session;
    this.who = element("span");
    this.user = element("small");
    this.pill = element("span", "pill");
    this.age = element("span", "age");
    this.way = element("span", "way");
    this.subject = element("span", "subject");
    this.rows = element("span", "rows");
    const figures = element("dl", "figures");
    [this.drained, this.fed, this.backlog, this.lead] = ["Drained", "Fed", "Backlog", "Lead"].map((name) => {
      const [value, more] = [element("span"), element("small")];
      figures.append(element("div", "", element("dt", "", name), element("dd", "", value, more)));
      return { value, more };
    });
    this.lead.value.parentElement.parentElement.title =
      "How much earlier the server had finished the last response than the client";
    this.element = element("article", "card panel",
      element("div", "head", element("span", "who", this.who, " ", this.user), this.pill),
      element("div", "from", this.way, this.age),
      element("div", "reading", this.subject, this.rows),
      session.chart.element,
      figures);
    this.element.dataset.session = session.id;
  }

  show() {
    const { session } = this;
    const { snapshot } = session;
    set(this.who, session.who);
    set(this.user, snapshot.program ? snapshot.user ?? "" : "");
    session.showState(this.pill);
    set(this.age, time(snapshot.age_ms));
    this.age.title = `Session ${session.id}, since ${new Date(snapshot.began_unix_ms).toLocaleString()}`;
    setLong(this.way, session.way);
    setLong(this.subject, session.words);
    set(this.rows, snapshot.subject_rows ? rowsOf(snapshot.subject_rows) : "");
    set(this.drained.value, bytes(snapshot.drained));
    set(this.drained.more, rowsOf(snapshot.rows));
    set(this.fed.value, bytes(snapshot.fed));
    set(this.fed.more, snapshot.drained ? `${Math.floor((100 * snapshot.fed) / snapshot.drained)} %` : "");
    set(this.backlog.value, bytes(snapshot.backlog));
    set(this.backlog.more, snapshot.on_disk ? `disk ${bytes(snapshot.on_disk)}` : `peak ${bytes(snapshot.backlog_peak)}`);
    set(this.lead.value, snapshot.lead_ms ? time(snapshot.lead_ms) : "–");
    set(this.lead.more, snapshot.held_back_ms ? `held ${time(snapshot.held_back_ms)}` : "");
    session.chart.draw();
  }
}

class Row {
  constructor(session) {
    this.session = session;
    this.spark = new Spark();
    [this.who, this.way, this.rows] = [element("span"), element("small"), element("small")];
    this.subject = element("span", "subject");
    this.pill = element("span", "pill");
    [this.drain, this.feed, this.lead, this.age] = [1, 2, 3, 4].map(() => element("td", "wide number"));
    this.backlog = element("span");
    this.element = element("tr", "",
      element("td", "", this.who, this.way),
      element("td", "", this.subject, this.rows),
      element("td", "wide", this.pill),
      this.drain,
      this.feed,
      element("td", "number", this.backlog, this.spark.element),
      this.lead,
      this.age);
    this.element.dataset.session = session.id;
  }

  show() {
    const { session } = this;
    const { snapshot, history } = session;
    setLong(this.who, session.who);
    setLong(this.way, snapshot.program && snapshot.user ? `${snapshot.user}, ${session.way}` : session.way);
    setLong(this.subject, session.words);
    set(this.rows, snapshot.subject ? rowsOf(snapshot.subject_rows) : "");
    session.showState(this.pill);
    set(this.drain, speed(history.last.drainSpeed));
    set(this.feed, speed(history.last.feedSpeed));
    set(this.backlog, bytes(snapshot.backlog));
    set(this.lead, snapshot.lead_ms ? time(snapshot.lead_ms) : "–");
    set(this.age, time(snapshot.age_ms));
    this.spark.draw(history);
  }
}

const ORDERS = {
  age: (a, b) => a.id - b.id,
  backlog: (a, b) => b.snapshot.backlog - a.snapshot.backlog || a.id - b.id,
  speed: (a, b) => b.history.last.drainSpeed - a.history.last.drainSpeed || a.id - b.id,
};

// The page

const total = new Chart({ bytes, speed });
byId("total-chart").append(total.element);

const sessions = new Map();
// What stands in the current view, by session.
const views = new Map();
let view = null;
let chosen = null;
let draining = false;

function showTotals(state) {
  const { totals, memory, disk } = state;
  const backlog = state.sessions.reduce((sum, session) => sum + session.backlog, 0);
  total.history.add(state.now_unix_ms, { drained: totals.drained, fed: totals.fed, backlog });
  total.draw();
  const { drainSpeed, feedSpeed } = total.history.last;
  set(byId("drain-speed"), speed(drainSpeed));
  set(byId("drained"), `${bytes(totals.drained)}, ${rowsOf(totals.rows)}`);
  set(byId("feed-speed"), speed(feedSpeed));
  set(byId("fed"), `${bytes(totals.fed)} in all`);
  set(byId("backlog"), bytes(backlog));
  set(byId("backlog-peak"), backlog ? `${Math.round((100 * backlog) / Math.max(totals.drained, 1))} % of what was drained` : "all clients keep up");
  showTier("memory", memory);
  showTier("disk", disk);
  set(byId("held-back"), time(totals.held_back_ms));
}

function showTier(name, { used, peak, limit }) {
  set(byId(name), bytes(used));
  set(byId(`${name}-limit`), `${limit === null ? "no limit" : `of ${bytes(limit)}`}, peak ${bytes(peak)}`);
  const bar = byId(`${name}-bar`);
  bar.hidden = limit === null;
  bar.value = limit ? Math.min(used / limit, 1) : 0;
}

function update(state) {
  const now = state.now_unix_ms;
  const seen = new Set();
  for (const snapshot of state.sessions) {
    seen.add(snapshot.id);
    let session = sessions.get(snapshot.id);
    // A process that was started anew counts from 1 again.
    if (!session || session.snapshot.began_unix_ms !== snapshot.began_unix_ms) {
      session = new Session(snapshot.id);
      sessions.set(snapshot.id, session);
      drop(snapshot.id);
    }
    session.update(now, snapshot);
  }
  for (const id of sessions.keys()) {
    if (!seen.has(id)) {
      sessions.delete(id);
      drop(id);
    }
  }
}

function drop(id) {
  views.get(id)?.element.remove();
  views.delete(id);
}

function showSessions() {
  const wanted = chosen ?? (sessions.size > MANY ? "table" : "cards");
  if (wanted !== view) {
    [...views.keys()].forEach(drop);
    view = wanted;
    byId("cards").hidden = view !== "cards";
    byId("table").hidden = view !== "table";
    byId("as-cards").setAttribute("aria-pressed", String(view === "cards"));
    byId("as-table").setAttribute("aria-pressed", String(view === "table"));
  }
  const filter = byId("filter").value.trim().toLowerCase();
  const shown = [...sessions.values()].filter((session) => session.matches(filter)).sort(ORDERS[byId("sort").value]);
  const place = byId(view === "cards" ? "cards" : "rows");
  const ids = new Set(shown.map((session) => session.id));
  [...views.keys()].filter((id) => !ids.has(id)).forEach(drop);
  shown.forEach((session, index) => {
    let entry = views.get(session.id);
    if (!entry) {
      entry = view === "cards" ? new Card(session) : new Row(session);
      views.set(session.id, entry);
    }
    if (place.children[index] !== entry.element) {
      place.insertBefore(entry.element, place.children[index] ?? null);
    }
    entry.show();
  });
  showCount(shown.length);
}

function showCount(shown) {
  const all = sessions.size;
  set(byId("count"), shown === all ? `${count(all)} ${all === 1 ? "session" : "sessions"}` : `${count(shown)} of ${count(all)} sessions`);
  byId("filter").hidden = all < SOME && !byId("filter").value;
  byId("sort").parentElement.hidden = all < 2;
  byId("empty").hidden = shown > 0;
  byId("table").hidden = view !== "table" || shown === 0;
  set(byId("empty"), all ? "No session matches the filter." : "No sessions. A dump that runs through Spillway appears here at once.");
}

function showStatus(kind, words, notice = "") {
  const pill = byId("status");
  pill.className = `pill ${kind}`;
  set(pill, words);
  byId("notice").hidden = !notice;
  byId("notice").className = kind === "warn" ? "calm" : "";
  set(byId("notice"), notice);
}

async function fetchState() {
  const response = await fetch("/api/sessions", { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
  if (!response.ok) {
    throw new Error(`status ${response.status}`);
  }
  return response.json();
}

let lastAnswer = null;

async function tick() {
  let state;
  try {
    state = await fetchState();
  } catch {
    const when = lastAnswer ? `what is shown is of ${lastAnswer.toLocaleTimeString()}` : "nothing was shown so far";
    showStatus("bad", "no answer", `Spillway does not answer: ${when}.${draining ? " It was told to stop." : ""}`);
    return;
  }
  lastAnswer = new Date();
  draining = state.draining;
  if (draining) {
    showStatus("warn", "draining", "Spillway was told to stop: it takes no new sessions, and ends with the last one.");
  } else {
    showStatus("good", "serving");
  }
  set(byId("version"), `${state.version}, up ${time(state.uptime_ms)}`);
  update(state);
  showTotals(state);
  showSessions();
  document.title = sessions.size ? `(${sessions.size}) Spillway` : "Spillway";
}

async function run() {
  for (;;) {
    const began = performance.now();
    await tick();
    const left = PERIOD - (performance.now() - began);
    await new Promise((resolve) => setTimeout(resolve, Math.max(left, 100)));
  }
}

for (const [id, wanted] of [["as-cards", "cards"], ["as-table", "table"]]) {
  byId(id).addEventListener("click", () => {
    chosen = wanted;
    showSessions();
  });
}
byId("filter").addEventListener("input", showSessions);
byId("sort").addEventListener("change", showSessions);

run();
