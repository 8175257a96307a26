// Keys, copying, remembering the reviewer's name. Nothing here writes markup; without it every page still works.
"use strict";
(() => {
  const rows = () => Array.from(document.querySelectorAll("table.rows tbody tr")).filter((row) => row.querySelector("a.open"));
  const move = (by) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.classList.contains("current"));
    const to = Math.min(Math.max(at + by, 0), all.length - 1);
    if (at >= 0) all[at].classList.remove("current");
    all[to].classList.add("current");
    all[to].querySelector("a.open").focus({ preventScroll: true });
    all[to].scrollIntoView({ block: "nearest" });
  };
  const follow = (selector) => {
    const link = document.querySelector(selector);
    if (link) link.click();
  };
  const places = { d: "/", c: "/compare", b: "/blast", r: "/runs" };
  let went = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Enter" && event.target instanceof HTMLTextAreaElement) event.target.form.requestSubmit();
      return;
    }
    if (event.target instanceof Element && event.target.closest("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const after = performance.now() - went < 1200;
    went = event.key === "g" ? performance.now() : 0;
    if (after && places[event.key]) {
      location.assign(places[event.key]);
    } else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("q").focus();
    } else if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "]") follow("a[rel=next]");
    else if (event.key === "[") follow("a[rel=prev]");
    else if (event.key === "?") document.getElementById("keys").showModal();
  });
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const says = button.textContent;
      try {
        const answer = await fetch(button.dataset.copy);
        await navigator.clipboard.writeText(await answer.text());
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied: open the JSON below";
      }
      setTimeout(() => { button.textContent = says; }, 2000);
    });
  }
  const names = document.querySelectorAll("form.review input[name=who]");
  try {
    for (const field of names) field.value = localStorage.getItem("reviewer") || "";
    for (const field of names) field.addEventListener("change", () => localStorage.setItem("reviewer", field.value));
  } catch { /* storage is off: the name is typed each time */ }
})();
