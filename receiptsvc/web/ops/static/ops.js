// Times in the reader's zone, and "/" for the search. Without script all else works as well.
// They are written as the server wrote them, so that no line grows and moves what is read.
const clock = new Intl.DateTimeFormat("en-GB", {
  day: "2-digit", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
});
const written = (at) => clock.format(at).replace(",", "");

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.textContent = written(new Date(time.dateTime));
    time.dataset.local = "";
  }
  const zone = `your time (${clock.resolvedOptions().timeZone})`;
  for (const place of root.querySelectorAll("[data-zone]")) place.textContent = zone;
  for (const field of root.querySelectorAll("[type=datetime-local]:not([data-local])")) {
    const at = new Date(`${field.defaultValue}Z`);
    if (field.defaultValue) field.value = asField(at, -at.getTimezoneOffset());
    field.dataset.local = "";
  }
}

// A time as all pages have it.
function asTime(at) {
  const time = Object.assign(document.createElement("time"), { dateTime: at.toISOString() });
  time.title = time.dateTime.replace("T", " ").replace("Z", " UTC");
  time.textContent = written(at);
  time.dataset.local = "";
  return time;
}

// What a field for a time holds: the reader's time, of which UTC is sent.
function asField(at, minutes = 0) {
  return new Date(at.getTime() + 60000 * minutes).toISOString().slice(0, 16);
}

document.addEventListener("formdata", (event) => {
  for (const field of event.target.querySelectorAll("[data-local][type=datetime-local]")) {
    if (field.value) event.formData.set(field.name, asField(new Date(field.value)));
  }
});

// What is live is asked for again: not while nobody looks, and far less often than it takes to answer.
// A page that is late is asked for less and less often.
let gap = 3;

async function watch() {
  const live = document.querySelector("[data-live]");
  const late = document.querySelector(".late[hx-get]");
  const part = late ?? live;
  const how = late ? { target: "#content", select: "#content", swap: "outerHTML" } : { target: live };
  const begun = performance.now();
  if (part && !document.hidden) {
    await htmx.ajax("GET", part.getAttribute("hx-get"), { source: part, ...how }).catch(() => 0);
    if (late) gap = Math.min(60, 2 * gap);
  }
  const seconds = document.querySelector(".late[hx-get]") ? gap : (live?.dataset.live ?? 5);
  if (part) setTimeout(watch, Math.max(seconds * 1000, 20 * (performance.now() - begun)));
}

function tell(isAway) {
  const away = document.getElementById("away");
  if (away) away.hidden = !isAway || document.querySelector(".late") !== null;
}

// The first page is fed by one stream. It is left while nobody looks: a browser has six connections to a host, for all
// its tabs. A browser comes again by itself after a break, but not after an answer that is no stream.
const SILENT_MS = 10000, AGAIN_MS = 15000, SAY_MS = 5000;
const feed = document.querySelector("[data-stream]");
const line = () => document.querySelector("#verdict h1")?.textContent ?? "";
let source, listening, opened = 0, heard = 0, at, isLive = true, sayAt = 0, saying;

function listen() {
  source?.close();
  source = undefined;
  if (document.hidden) return;
  const have = [...document.querySelectorAll("[data-tag]")].map((part) => part.dataset.tag);
  source = new EventSource(`${feed.dataset.stream}?have=${have}`);
  opened = heard = performance.now();
  for (const name of ["verdict", "numbers", "charts"]) source.addEventListener(name, show);
  source.addEventListener("tick", (event) => {
    const tick = JSON.parse(event.data);
    heard = performance.now();
    at = tick.at ?? at;
    tellLive(tick.isLive);
  });
  source.addEventListener("error", () => tellLive(false));
}

// A part is replaced, but what was opened in it stays open, and the focus where it was.
function show(event) {
  const part = document.getElementById(event.type);
  const wasOpen = [...part.querySelectorAll("details[open]")].map((each) => each.id);
  const place = [...part.querySelectorAll("a, summary, [tabindex]")].indexOf(document.activeElement);
  const before = line();
  part.innerHTML = event.data;
  part.dataset.tag = event.lastEventId;
  for (const id of wasOpen) document.getElementById(id)?.setAttribute("open", "");
  if (place >= 0) part.querySelectorAll("a, summary, [tabindex]")[place]?.focus({ preventScroll: true });
  localise(part);
  if (line() !== before) say(line());
}

function tellLive(isNow) {
  const time = at ? asTime(new Date(at)) : "this page was opened";
  if (isNow !== isLive) say(isNow ? "Live again." : `Not live since ${time.textContent ?? time}.`);
  isLive = isNow;
  const live = document.getElementById("live");
  live.className = isNow ? "hint" : "notice warn";
  live.firstElementChild.replaceChildren(isNow ? "Live: read at " : "Not live since ", time, ".");
}

// Aloud at most once in 5 s, and then what is newest.
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => {
    sayAt = performance.now() + SAY_MS;
    document.getElementById("said").textContent = text;
  }, Math.max(0, sayAt - performance.now()));
}

// An answer that is no stream is read here, since a stream of the browser's does not tell it.
async function comeBack() {
  opened = performance.now();
  const answer = await fetch(location.href, { method: "HEAD", headers: { "HX-Request": "true" } }).catch(() => 0);
  if (answer.status !== 204) return listen();
  clearInterval(listening);
  document.querySelector("#verdict h1").textContent = "You are signed out: this is no longer kept up to date.";
}

function keepListening() {
  const now = performance.now();
  if (source && now - heard > SILENT_MS) tellLive(false);
  if (source?.readyState === EventSource.CLOSED && now - opened > AGAIN_MS) comeBack();
}

if (feed) {
  listen();
  listening = setInterval(keepListening, 1000);
  document.addEventListener("visibilitychange", listen);
}

// What takes several steps goes on by itself, each step a page of its own.
function goOn() {
  const form = document.querySelector("form[data-go-on]");
  if (form) setTimeout(() => form.requestSubmit(), 1000 * form.dataset.goOn);
}

goOn();
localise(document);
setTimeout(watch, document.querySelector(".late[hx-get]") ? 3000 : 5000);
document.addEventListener("htmx:after:request", (event) => tell(event.detail.ctx.response.status >= 500));
document.addEventListener("htmx:error", () => tell(true));
document.addEventListener("htmx:after:swap", () => localise(document));
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  if (event.key !== "/" || !search || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  search.focus();
});
