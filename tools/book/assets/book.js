"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// Light and dark: the system's choice until the reader makes one.
const theme = byId("theme");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const showTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try { localStorage.setItem("book-theme", next); } catch { /* private window */ }
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
theme.setAttribute("aria-label", "Change between light and dark");
showTheme();

// Chapters behind a button on narrow screens.
const menu = byId("menu"), side = byId("side");
const showMenu = (open) => {
  side.classList.toggle("open", open);
  menu.setAttribute("aria-expanded", String(open));
  if (open) side.querySelector("a[aria-current], a").focus();
};
menu.addEventListener("click", () => showMenu(!side.classList.contains("open")));
document.addEventListener("click", (event) => {
  if (side.classList.contains("open") && !side.contains(event.target) && event.target !== menu) showMenu(false);
});
const current = side.querySelector("a[aria-current]");
if (current && current.offsetTop > side.clientHeight - 80) side.scrollTop = current.offsetTop - side.clientHeight / 2;

// Table of contents: folded on narrow screens, the section in view is marked.
const toc = document.querySelector(".toc details");
if (toc && matchMedia("(max-width: 1180px)").matches) toc.open = false;
const tocLinks = new Map(all(".toc a").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
const inView = new IntersectionObserver((entries) => {
  const seen = entries.filter((e) => e.isIntersecting).map((e) => tocLinks.get(e.target.id)).filter(Boolean);
  if (!seen.length) return;
  tocLinks.forEach((a) => a.removeAttribute("aria-current"));
  seen.at(-1).setAttribute("aria-current", "true");
}, { rootMargin: "-10% 0px -75% 0px" });
all("main section[id]").forEach((section) => inView.observe(section));

// Links to sections, copy buttons, boxes that scroll are reachable by keyboard.
all("main section[id] > :is(h2, h3, h4)").forEach((heading) => {
  const link = make("a", { className: "anchor", href: "#" + heading.parentElement.id, textContent: "#" });
  link.setAttribute("aria-label", "Link to this section");
  heading.append(link);
});
all("main div.sourceCode").forEach((box) => {
  const button = make("button", { className: "copy", type: "button", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(box.querySelector("code").textContent);
      button.textContent = "Copied";
    } catch { button.textContent = "Not allowed"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  box.append(button);
});
const markScrolling = () => all("main :is(pre, .scroll, .formula)").forEach((box) => {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0; else box.removeAttribute("tabindex");
});
addEventListener("resize", markScrolling);
markScrolling();

// Tabs: arrow keys move; sets of one group change together and are remembered.
const select = (tab) => {
  all("[role=tab]", tab.parentElement).forEach((other) => {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    byId(other.getAttribute("aria-controls")).style.display = chosen ? "" : "none";
  });
};
const choose = (tab) => {
  const group = tab.closest(".tabset").dataset.group;
  select(tab);
  if (!group) return;
  all("[role=tab]").filter((t) => t.closest(".tabset").dataset.group === group
    && t.textContent === tab.textContent).forEach(select);
  try { localStorage.setItem("book-tab-" + group, tab.textContent); } catch { /* private window */ }
};
all(".tabset").forEach((set) => {
  const tabs = all(":scope > [role=tablist] > [role=tab]", set);
  let stored = null;
  try { stored = localStorage.getItem("book-tab-" + set.dataset.group); } catch { /* private window */ }
  select(tabs.find((t) => t.textContent === stored) || tabs[0]);
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : step && i + step;
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs.at(to % tabs.length);
      choose(next);
      next.focus();
    });
  });
});

// A link into a folded box or a hidden tab opens it; printing opens everything.
const reveal = () => {
  let element = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
  if (!element) return;
  for (let up = element; up; up = up.parentElement) {
    if (up.tagName === "DETAILS") up.open = true;
    if (up.getAttribute("role") === "tabpanel") select(byId(up.getAttribute("aria-labelledby")));
  }
  element.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();
let folded = [];
addEventListener("beforeprint", () => {
  folded = all("main details:not([open])");
  folded.forEach((d) => { d.open = true; });
});
addEventListener("afterprint", () => folded.forEach((d) => { d.open = false; }));

// Search: library and index are plain scripts, loaded at the first use.
const dialog = byId("search"), words = byId("search-words"), found = byId("search-found"), state = byId("search-state");
const { root, assets } = document.body.dataset;
let index = null;
const script = (name) => new Promise((done, failed) => {
  document.head.append(make("script", { src: `${assets}/${name}`, onload: done, onerror: failed }));
});
const clean = (text) => text.replace(/[^\p{L}\p{N}_]+/gu, " ").trim();
const buildIndex = async () => {
  await Promise.all(["elasticlunr.min.js", "search-index.js"].map(script));
  const built = elasticlunr(function () {
    ["section", "chapter", "text"].forEach((field) => this.addField(field));
    this.setRef("id");
    this.saveDocument(false);
    this.pipeline.remove(elasticlunr.trimmer);
  });
  bookIndex.forEach(([, chapter, section, text], id) => built.addDoc(
    { id, chapter: clean(chapter), section: clean(section), text: clean(text) }));
  return built;
};
const openSearch = async () => {
  dialog.showModal();
  words.select();
  state.textContent = index ? "" : "Loading …";
  index ??= await buildIndex();
  state.textContent = "";
  show();
};
const snippet = (text, terms) => {
  const low = text.toLowerCase();
  const places = terms.map((t) => low.indexOf(t)).filter((i) => i >= 0);
  const from = Math.max(0, Math.min(...places, text.length) - 50);
  const start = places.length ? from : 0;
  const piece = (start ? "… " : "") + text.slice(start, start + 160) + (text.length > start + 160 ? " …" : "");
  const pattern = new RegExp(`(${terms.map((t) => t.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "iu");
  return piece.split(pattern).map((part, i) => (i % 2 ? make("mark", { textContent: part }) : part));
};
const show = () => {
  const query = clean(words.value);
  found.replaceChildren();
  words.removeAttribute("aria-activedescendant");
  words.setAttribute("aria-expanded", "false");
  if (!index || !query) { state.textContent = ""; return; }
  const hits = index.search(query, {
    fields: { section: { boost: 4 }, chapter: { boost: 1 }, text: { boost: 1 } }, bool: "AND", expand: true,
  }).slice(0, 20);
  const terms = query.toLowerCase().split(" ");
  hits.forEach(({ ref }, i) => {
    const [address, chapter, section, text] = bookIndex[ref];
    const link = make("a", { href: root + address, id: `hit-${i}` },
      make("b", {}, section ? `${chapter} › ${section}` : chapter), make("small", {}, ...snippet(text, terms)));
    link.setAttribute("role", "option");
    link.addEventListener("click", () => dialog.close());
    found.append(link);
  });
  state.textContent = hits.length ? `${hits.length}${hits.length === 20 ? " or more" : ""} found` : "Nothing found";
  words.setAttribute("aria-expanded", String(hits.length > 0));
  mark(0);
};
const mark = (i) => all("a", found).forEach((a, k) => {
  a.setAttribute("aria-selected", String(k === i));
  if (k !== i) return;
  words.setAttribute("aria-activedescendant", a.id);
  a.scrollIntoView({ block: "nearest" });
});
words.addEventListener("input", show);
words.addEventListener("keydown", (event) => {
  const links = all("a", found), at = links.findIndex((a) => a.getAttribute("aria-selected") === "true");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && links.length) { event.preventDefault(); mark((at + step + links.length) % links.length); }
  if (event.key === "Enter" && links[at]) links[at].click();
});
byId("search-open").addEventListener("click", openSearch);
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) { event.preventDefault(); openSearch(); }
  if (event.key === "Escape" && side.classList.contains("open")) { showMenu(false); menu.focus(); }
});
