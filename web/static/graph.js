// Move and zoom the graph of versions; point at a box to see its own line. Without it the picture scrolls.
"use strict";
(() => {
  for (const box of document.querySelectorAll(".graph-box")) {
    const svg = box.querySelector("svg");
    if (!svg) continue;
    const whole = svg.viewBox.baseVal;
    const full = { x: whole.x, y: whole.y, w: whole.width, h: whole.height };
    const view = { ...full };
    svg.removeAttribute("width");
    svg.removeAttribute("height");
    box.classList.add("moves");
    const most = box.classList.contains("tall") ? Math.max(320, window.innerHeight * 0.62) : 480;
    box.style.height = Math.min(most, Math.max(110, full.h + 40)) + "px";
    const show = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
    const size = () => box.getBoundingClientRect();
    const fit = () => {
      const at = size();
      const scale = Math.max((full.w + 24) / at.width, (full.h + 24) / at.height, 0.9);
      view.w = at.width * scale;
      view.h = at.height * scale;
      view.x = full.x + (full.w - view.w) / 2;
      view.y = full.y + (full.h - view.h) / 2;
      show();
    };
    const reveal = () => {
      const here = svg.querySelector(".box.here");
      const at = size();
      view.w = at.width;
      view.h = at.height;
      view.x = here ? here.x.baseVal.value + here.width.baseVal.value + 24 - view.w : full.x;
      view.y = here ? here.y.baseVal.value - view.h / 2 : full.y;
      if (full.w <= view.w) view.x = full.x + (full.w - view.w) / 2;
      if (full.h <= view.h) view.y = full.y + (full.h - view.h) / 2;
      show();
    };
    const zoom = (by, px, py) => {
      const at = size();
      const fx = px === undefined ? 0.5 : (px - at.left) / at.width;
      const fy = py === undefined ? 0.5 : (py - at.top) / at.height;
      const w = Math.min(Math.max(view.w * by, at.width / 4), Math.max(full.w, at.width) * 4);
      const h = (w * at.height) / at.width;
      view.x += (view.w - w) * fx;
      view.y += (view.h - h) * fy;
      view.w = w;
      view.h = h;
      show();
    };
    const pan = (dx, dy) => {
      const at = size();
      view.x -= (dx * view.w) / at.width;
      view.y -= (dy * view.h) / at.height;
      show();
    };
    let held = null;
    let moved = 0;
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      held = [event.clientX, event.clientY];
      moved = 0;
    });
    box.addEventListener("pointermove", (event) => {
      if (!held) return;
      const dx = event.clientX - held[0];
      const dy = event.clientY - held[1];
      moved += Math.abs(dx) + Math.abs(dy);
      if (moved > 4) {
        if (!box.hasPointerCapture(event.pointerId)) box.setPointerCapture(event.pointerId);
        pan(dx, dy);
      }
      held = [event.clientX, event.clientY];
    });
    const drop = () => { held = null; };
    box.addEventListener("pointerup", drop);
    box.addEventListener("pointercancel", drop);
    box.addEventListener("click", (event) => { if (moved > 4) event.preventDefault(); }, true);
    box.addEventListener("dragstart", (event) => event.preventDefault());
    box.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== box && !box.contains(document.activeElement)) return;
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.15 : 0.87, event.clientX, event.clientY);
    }, { passive: false });
    box.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      if (event.key === "+" || event.key === "=") zoom(0.8);
      else if (event.key === "-") zoom(1.25);
      else if (event.key === "0") fit();
      else if (steps[event.key]) pan(...steps[event.key]);
      else return;
      event.preventDefault();
    });
    const bar = document.createElement("div");
    bar.className = "zoom";
    for (const [says, name, does] of [["+", "zoom in", () => zoom(0.8)], ["−", "zoom out", () => zoom(1.25)], ["fit", "fit the whole graph", fit], ["here", "back to this version", reveal]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.textContent = says;
      button.setAttribute("aria-label", name);
      button.addEventListener("click", does);
      bar.append(button);
    }
    box.before(bar);
    const edges = Array.from(svg.querySelectorAll("path.edge"));
    const nodes = Array.from(svg.querySelectorAll(".node"));
    const line = (ref) => {
      const found = new Set([ref]);
      for (const [a, b] of [["from", "to"], ["to", "from"]]) {
        const todo = [ref];
        while (todo.length) {
          const at = todo.pop();
          for (const edge of edges) {
            if (edge.dataset[a] === at && !found.has(edge.dataset[b])) {
              found.add(edge.dataset[b]);
              todo.push(edge.dataset[b]);
            }
          }
        }
      }
      return found;
    };
    const point = (ref) => {
      const found = ref ? line(ref) : null;
      for (const node of nodes) node.classList.toggle("aside", !!found && !found.has(node.dataset.ref));
      for (const edge of edges) edge.classList.toggle("aside", !!found && !(found.has(edge.dataset.from) && found.has(edge.dataset.to)));
    };
    for (const node of nodes) {
      node.addEventListener("pointerenter", () => point(node.dataset.ref));
      node.addEventListener("pointerleave", () => point(null));
      node.addEventListener("focus", () => point(node.dataset.ref));
      node.addEventListener("blur", () => point(null));
    }
    if (full.w <= size().width * 1.6 && full.h <= size().height * 1.6) fit(); else reveal();
  }
})();
