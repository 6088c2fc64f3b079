// Sorts a table by the column whose heading is clicked, and filters the runs by words.
"use strict";
const tables = [...document.querySelectorAll("table.board")];

function compare(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");  // missing values come last in both directions
  const numbers = [Number(a), Number(b)];
  return direction * (numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1]);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells], head = heads[column];
  const now = head.getAttribute("aria-sort"), first = head.firstElementChild.dataset.first;
  const direction = (now === "none" ? first : now === "ascending" ? "descending" : "ascending") === "ascending" ? 1 : -1;
  for (const other of heads) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => [row.cells[column].dataset.by, row]);
  rows.sort((a, b) => compare(a[0], b[0], direction));
  table.tBodies[0].append(...rows.map((pair) => pair[1]));
}

for (const table of tables) {
  [...table.tHead.rows[0].cells].forEach((head, column) => head.firstElementChild.addEventListener("click", () => sortBy(table, column)));
}

const filter = document.querySelector(".filter input");
if (filter) {
  const status = document.querySelector(".filter [role=status]");
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]).map((row) => [row, row.textContent.toLowerCase()]);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    for (const table of tables) table.closest("section").hidden = [...table.tBodies[0].rows].every((row) => row.hidden);
    status.textContent = words.length ? `${shown} of ${rows.length} runs` : "";
  });
}
