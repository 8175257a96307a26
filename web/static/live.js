// What changes while one looks: a run at work, a search that goes on, sliders of what-if. All of it works without, by reload.
"use strict";
(() => {
  const live = document.querySelector("[data-live]");
  if (live) {
    setTimeout(() => { if (!document.hidden) location.reload(); else document.addEventListener("visibilitychange", () => location.reload(), { once: true }); }, 1000 * Number(live.dataset.live));
  }
  const on = document.getElementById("go-on");
  if (on) setTimeout(() => location.reload(), 60);

  const form = document.getElementById("what-if");
  if (!form) return;
  const commas = (n) => n.toLocaleString("en-US");
  const says = document.getElementById("says");
  let waiting = null;
  let asking = null;
  const question = () => {
    const asked = new URLSearchParams();
    for (const field of form.querySelectorAll("input[type=number]")) if (field.value !== "") asked.set(field.name, field.value);
    return asked;
  };
  const boxed = (key) => Array.from(form.querySelectorAll("[data-key]")).find((one) => one.dataset.key === key);
  const points = (fraction) => (100 * fraction).toFixed(1) + "%";
  const tell = (found) => {
    says.textContent = found.says + ".";
    for (const move of found.moves) {
      const box = boxed(move.key);
      if (!box) continue;
      box.closest("figure").querySelector("[data-counts]").textContent = `keeps ${commas(move.kept_after)} instead of ${commas(move.kept_before)}: ${commas(move.newly_kept)} more, ${commas(move.newly_dropped)} fewer`;
    }
    for (const bound of found.bounds) {
      const text = Array.from(form.querySelectorAll("[data-bound]")).find((one) => one.dataset.bound === bound.key);
      if (text) text.textContent = `${commas(bound.drops)} of ${commas(found.before)} rows lie outside`;
    }
    const now = found.parts.reduce((sum, part) => sum + part.before, 0);
    const then = found.parts.reduce((sum, part) => sum + part.after, 0);
    for (const part of found.parts) {
      const row = Array.from(document.querySelectorAll("#parts tbody tr")).find((one) => one.dataset.source === part.source);
      if (!row) continue;
      const shift = now && then ? part.after / then - part.before / now : 0;
      const after = row.querySelector("[data-after]");
      after.textContent = commas(part.after);
      after.dataset.value = String(part.after);
      row.querySelector("[data-share]").textContent = then ? points(part.after / then) : "";
      row.querySelector("[data-shift]").textContent = Math.abs(shift) < 1e-9 ? "" : (shift > 0 ? "+" : "\u2212") + Math.abs(100 * shift).toFixed(1) + " pp";
      row.querySelector("[data-comes]").textContent = part.may_come ? commas(part.may_come) : "";
      const bar = row.querySelector("rect.bar");
      const track = row.querySelector("rect.track");
      if (bar && track && part.before) bar.setAttribute("width", String(Math.max((Number(track.getAttribute("width")) * part.after) / part.before, 1)));
    }
  };
  const ask = async () => {
    if (asking) asking.abort();
    asking = new AbortController();
    const asked = question();
    history.replaceState(null, "", location.pathname + (asked.size ? "?" + asked : ""));
    asked.set("rows", "0");
    try {
      const answer = await fetch(form.dataset.twin + "?" + asked, { signal: asking.signal });
      if (answer.ok) tell(await answer.json());
      else says.textContent = (await answer.json()).error + ".";
    } catch (error) {
      if (error.name !== "AbortError") says.textContent = "The server does not answer.";
    }
  };
  form.addEventListener("input", (event) => {
    const box = event.target.closest("[data-key]");
    if (!box) return;
    const slider = box.querySelector("input[type=range]");
    const field = box.querySelector("input[type=number]");
    if (event.target === slider) field.value = String(Number(Number(slider.value).toPrecision(4)));
    else if (field.value !== "") slider.value = field.value;
    const figure = box.closest("figure");
    const plot = figure.querySelector("svg");
    if (plot) {
      let mark = Array.from(plot.querySelectorAll("line.moved")).find((one) => one.dataset.of === box.dataset.key);
      if (!mark) {
        mark = document.createElementNS("http://www.w3.org/2000/svg", "line");
        mark.classList.add("threshold", "moved");
        mark.dataset.of = box.dataset.key;
        mark.setAttribute("y1", "4");
        mark.setAttribute("y2", String(plot.viewBox.baseVal.height - 18));
        plot.append(mark);
      }
      const low = Number(figure.dataset.low);
      const span = Number(figure.dataset.high) - low || 1;
      const wide = plot.viewBox.baseVal.width;
      const x = Math.min(Math.max(6 + ((Number(slider.value) - low) / span) * (wide - 12), 6), wide - 6);
      mark.setAttribute("x1", String(x));
      mark.setAttribute("x2", String(x));
      for (const old of plot.querySelectorAll("line.moved:not([data-of])")) old.remove();
    }
    clearTimeout(waiting);
    waiting = setTimeout(ask, 90);
  });
})();
