// Times in the reader's zone, and "/" for the search. Without script all else works as well.
const written = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    time.textContent = written.format(new Date(time.dateTime));
    time.dataset.local = "";
  }
}

// What is live is asked for again: not while nobody looks, and far less often than it takes to answer.
async function watch() {
  const live = document.querySelector("[data-live]");
  const begun = performance.now();
  const address = live?.getAttribute("hx-get");
  if (live && !document.hidden) await htmx.ajax("GET", address, { source: live, target: live }).catch(() => 0);
  if (live) setTimeout(watch, Math.max(live.dataset.live * 1000, 20 * (performance.now() - begun)));
}

localise(document);
setTimeout(watch, 5000);
document.addEventListener("htmx:after:swap", () => localise(document));
document.addEventListener("keydown", (event) => {
  const search = document.getElementById("q");
  if (event.key !== "/" || !search || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  event.preventDefault();
  search.focus();
});
