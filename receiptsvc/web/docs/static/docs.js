// Adds to the pages of /docs what they can do without: search, copy buttons, one language for all samples.
"use strict";

const root = document.currentScript.dataset.root;
const search = document.querySelector(".search");
const field = document.querySelector("#search-field");
const found = document.querySelector("#search-found");
const count = search.querySelector("[role=status]");
const navigation = document.querySelector("#navigation");
const MAX_FOUND = 20;
const LANGUAGE = "receiptsvc.language";

let entries; // a promise of what can be found, from the first use of the field on

function load() {
  entries ??= fetch(`${root}docs/search.json`)
    .then((answer) => answer.json())
    .then((all) =>
      all.map((entry) => ({
        ...entry,
        titleText: entry.title.toLowerCase(),
        text: `${entry.title} ${entry.kind} ${entry.words}`.toLowerCase(),
      })),
    )
    .catch(() => {
      entries = undefined; // so that the next try asks again
      return [];
    });
  return entries;
}

// The higher, the better: the title begins so, has a word that begins so, has it, or only the text does.
function score(entry, words) {
  if (!words.every((word) => entry.text.includes(word))) return 0;
  return words.reduce((sum, word) => {
    const place = entry.titleText.indexOf(word);
    if (place === 0) return sum + 8;
    if (place > 0) return sum + (/\W/.test(entry.titleText[place - 1]) ? 6 : 4);
    return sum + (entry.kind.toLowerCase().includes(word) ? 3 : 1);
  }, 0);
}

function linkTo(entry) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const kind = document.createElement("small");
  link.href = root + entry.target;
  link.textContent = entry.title;
  kind.textContent = entry.kind;
  link.append(kind);
  item.append(link);
  return item;
}

async function find() {
  const text = field.value.trim().toLowerCase();
  navigation.classList.toggle("is-searching", text !== "");
  if (text === "") {
    found.replaceChildren();
    count.textContent = "";
    return;
  }
  const words = text.split(/\s+/);
  const all = await load();
  if (field.value.trim().toLowerCase() !== text) return; // more was typed meanwhile
  const ranked = all
    .map((entry) => [score(entry, words), entry])
    .filter(([points]) => points > 0)
    .sort(([one], [other]) => other - one);
  found.replaceChildren(...ranked.slice(0, MAX_FOUND).map(([, entry]) => linkTo(entry)));
  const shown = ranked.length > MAX_FOUND ? `, the best ${MAX_FOUND} are shown` : "";
  count.textContent = `${ranked.length || "Nothing"} found${shown}`;
}

function clearSearch() {
  field.value = "";
  find();
}

function moveFocus(step) {
  const links = [...found.querySelectorAll("a")];
  const place = links.indexOf(document.activeElement) + step;
  (place < 0 ? field : links[Math.min(place, links.length - 1)])?.focus();
}

search.hidden = false;
navigation.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", behavior: "instant" });
field.addEventListener("focus", load);
field.addEventListener("input", find);
search.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    moveFocus(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter" && event.target === field) {
    found.querySelector("a")?.click();
  } else if (event.key === "Escape" && field.value !== "") {
    event.preventDefault();
    clearSearch();
    field.focus();
  }
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    if (getComputedStyle(navigation).display === "none") navigation.showPopover();
    field.focus();
  }
});
navigation.addEventListener("click", (event) => {
  if (event.target.closest("a") === null) return;
  setTimeout(clearSearch); // once the link is followed: it may lead to this page
  if (navigation.matches(":popover-open")) navigation.hidePopover();
});

// Copy buttons

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers without a secure connection have only the old way.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await copy(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  block.prepend(button);
}

// The language that was chosen last, on every page

function stored() {
  try {
    return localStorage.getItem(LANGUAGE);
  } catch {
    return null; // the browser keeps nothing
  }
}

function choose(language) {
  for (const input of document.querySelectorAll(".samples input")) {
    if (input.value === language) input.checked = true;
  }
}

choose(stored());
document.addEventListener("change", (event) => {
  if (!event.target.matches(".samples input")) return;
  const before = event.target.getBoundingClientRect().top;
  choose(event.target.value);
  window.scrollBy({ top: event.target.getBoundingClientRect().top - before, behavior: "instant" }); // others changed their height
  try {
    localStorage.setItem(LANGUAGE, event.target.value);
  } catch {
    // then it is chosen for this page
  }
});
