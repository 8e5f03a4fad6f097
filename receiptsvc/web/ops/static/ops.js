// Times in the reader's zone, and "/" for the search. Without script all else works as well.
const written = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.textContent = written.format(new Date(time.dateTime));
    time.dataset.local = "";
  }
}

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
