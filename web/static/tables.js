// Small tables sort by their headings and narrow down by typing; what was chosen stands in the address.
"use strict";
(() => {
  const value = (cell) => {
    if (!cell) return "";
    const text = cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent.trim();
    const figure = Number(text.replace(/[,%$≥ ]/g, "").replace("\u2212", "-"));
    return text !== "" && !Number.isNaN(figure) ? figure : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const remember = (key, text) => {
    const url = new URL(location.href);
    if (text) url.searchParams.set(key, text); else url.searchParams.delete(key);
    history.replaceState(null, "", url);
  };
  const asked = new URLSearchParams(location.search);
  document.querySelectorAll("table.sortable").forEach((table, number) => {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 2) return;
    const key = "sort" + (number + 1);
    const heads = Array.from(table.tHead.rows[0].cells);
    const sort = (column, down) => {
      const rows = Array.from(body.rows).map((row) => [value(row.cells[column]), row]);
      rows.sort((a, b) => (a[0] === "" || b[0] === "" ? compare(a[0], b[0]) : (down ? -1 : 1) * compare(a[0], b[0])));
      for (const [, row] of rows) body.append(row);
      heads.forEach((head, i) => head.setAttribute("aria-sort", i === column ? (down ? "descending" : "ascending") : "none"));
    };
    heads.forEach((head, column) => {
      if (head.dataset.plain !== undefined || !head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending" ? false : head.getAttribute("aria-sort") === "ascending" ? true : head.classList.contains("n");
        sort(column, down);
        remember(key, (down ? "-" : "") + column);
      });
    });
    const held = asked.get(key);
    if (held && /^-?\d{1,2}$/.test(held)) sort(Math.abs(parseInt(held, 10)), held.startsWith("-"));
    if (body.rows.length < 12) return;
    const label = document.createElement("label");
    label.className = "narrow";
    label.append("narrow down ");
    const field = document.createElement("input");
    field.type = "search";
    field.value = asked.get("only" + (number + 1)) || "";
    const apply = () => {
      const text = field.value.toLowerCase();
      for (const row of body.rows) row.hidden = text !== "" && !row.textContent.toLowerCase().includes(text);
      remember("only" + (number + 1), field.value);
    };
    field.addEventListener("input", apply);
    if (field.value) apply();
    label.append(field);
    (table.closest(".scroll") || table).before(label);
  });
})();
