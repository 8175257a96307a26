// What is wrong with this page for someone who cannot see it well, or at all: a list of words, empty if nothing is.
() => {
  const wrong = [];
  const say = (what, it) => wrong.push(what + ": " + it.outerHTML.slice(0, 120));
  const name = (it) =>
    it.getAttribute("aria-label") ||
    (it.labels && it.labels.length && it.labels[0].textContent.trim()) ||
    it.textContent.trim() ||
    it.title ||
    (it.querySelector("title") && it.querySelector("title").textContent);
  for (const it of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea")) {
    if (!name(it) && !it.closest("label")) say("no name", it);
  }
  const ids = Array.from(document.querySelectorAll("[id]"), (it) => it.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("two of #" + id);
  if (document.querySelectorAll("h1").length !== 1) wrong.push("h1: " + document.querySelectorAll("h1").length);
  let level = 1;
  for (const it of document.querySelectorAll("main h1, main h2, main h3")) {
    if (Number(it.tagName[1]) > level + 1) say("heading jumps", it);
    level = Number(it.tagName[1]);
  }
  if (!document.documentElement.lang || !document.title || !document.querySelector("main")) wrong.push("no lang, title, main");
  for (const it of document.querySelectorAll("svg[role=img]")) if (!it.querySelector("title")) say("no title", it);
  for (const it of document.querySelectorAll("main table")) {
    if (!it.querySelector("th") && !it.closest("details")) say("table without headings", it);
  }
  const wide = document.documentElement.scrollWidth;
  if (wide > window.innerWidth + 1) wrong.push("wider than the window: " + wide);

  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (text) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = text;
    paint.fillRect(0, 0, 1, 1);
    return Array.from(paint.getImageData(0, 0, 1, 1).data);
  };
  const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (color) => 0.2126 * part(color[0]) + 0.7152 * part(color[1]) + 0.0722 * part(color[2]);
  const behind = (it) => {
    for (let at = it; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color[3] > 200) return color;
    }
    return rgb(getComputedStyle(document.documentElement).backgroundColor);
  };
  const seen = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim();
    const it = walk.currentNode.parentElement;
    if (!text || !it.checkVisibility() || it.closest("svg, option, .skip, .hidden")) continue;
    const style = getComputedStyle(it);
    const back = behind(it);
    const key = style.color + back.join();
    if (seen.has(key)) continue;
    seen.add(key);
    const [a, b] = [light(rgb(style.color)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) wrong.push("contrast " + ratio.toFixed(2) + " of " + style.color + ": " + text.slice(0, 40));
  }
  return wrong;
}
