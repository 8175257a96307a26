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
  for (const link of document.querySelectorAll("nav.top > a[aria-current], nav.tabs > a[aria-current]")) {
    const bar = link.parentElement; // on a narrow screen the bar scrolls: where one is must be seen
    bar.scrollLeft = link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2;
  }
  const places = { d: "a.brand", c: "a[data-page=compare]", b: "a[data-page=blast]", r: "a[data-page=runs]", h: "a[data-page=health]" };
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
      follow(`${places[event.key]}[href]`); // a published site has fewer pages than a server
    } else if (event.key === "/") {
      const field = document.getElementById("q");
      if (!field) return;
      event.preventDefault();
      field.focus();
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
  for (const button of document.querySelectorAll("button[data-copy-from]")) {
    button.addEventListener("click", async () => {
      const says = button.textContent;
      try {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copyFrom).textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied: select it by hand";
      }
      setTimeout(() => { button.textContent = says; }, 2000);
    });
  }
  const find = document.getElementById("q");
  if (find) find.addEventListener("paste", (event) => { // a field of one line would lose the breaks and join words
    const text = event.clipboardData.getData("text").trim();
    if (!text.includes("\n")) return;
    event.preventDefault();
    location.assign(`/pasted?${new URLSearchParams({ text: text.slice(0, 6000) })}`);
  });
  const names = document.querySelectorAll("form.review input[name=who]");
  try {
    for (const field of names) field.value = localStorage.getItem("reviewer") || "";
    for (const field of names) field.addEventListener("change", () => localStorage.setItem("reviewer", field.value));
  } catch { /* storage is off: the name is typed each time */ }
})();
