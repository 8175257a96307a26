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
  const tell = (found) => {
    says.textContent = found.says + ".";
    for (const move of found.moves) {
      const box = Array.from(form.querySelectorAll("[data-key]")).find((one) => one.dataset.key === move.key);
      if (!box) continue;
      box.querySelector("[data-counts]").textContent = `keeps ${commas(move.kept_after)} instead of ${commas(move.kept_before)}: ${commas(move.newly_kept)} more, ${commas(move.newly_dropped)} fewer`;
    }
    for (const part of found.parts) {
      const row = Array.from(document.querySelectorAll("#parts tbody tr")).find((one) => one.dataset.source === part.source);
      if (!row) continue;
      row.cells[2].textContent = commas(part.after);
      row.cells[3].textContent = part.may_come ? commas(part.may_come) : "";
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
    const line = box.querySelector("line.threshold");
    const plot = box.querySelector("svg");
    if (line && plot) {
      let mark = plot.querySelector("line.moved");
      if (!mark) {
        mark = line.cloneNode(false);
        mark.classList.add("moved");
        plot.append(mark);
      }
      const span = Number(slider.max) - Number(slider.min) || 1;
      const x = 6 + ((Number(slider.value) - Number(slider.min)) / span) * (plot.viewBox.baseVal.width - 12);
      mark.setAttribute("x1", String(x));
      mark.setAttribute("x2", String(x));
    }
    clearTimeout(waiting);
    waiting = setTimeout(ask, 90);
  });
})();
