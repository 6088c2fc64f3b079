// The table of all images: sorted and filtered here; rows are added as the user scrolls.
const PART = 100; // rows that are added at a time
const { ids, columns, cases: pictureOf } = data.table;
const sorted = { column: null, down: false };
let listed = []; // the rows that the filter leaves, in their order
const OUTCOME = columns.length;
const titles = ["id", ...columns.map(({ title }) => title), ...(data.of.length ? [data.kind === "mask" ? "outcome per image" : "outcome"] : [])];

/** The value of an image in column `k`; column -1 is its name. */
function cell(row, k) {
  if (k < 0) return ids[row];
  if (k === OUTCOME) return outcome(row, state.channel);
  return columns[k].values ? columns[k].values[row] : columns[k].of[state.channel][row];
}

function matches(row, asked) {
  return titles.some((_, place) => {
    const found = cell(row, place - 1);
    return typeof found === "string" && found.toLowerCase().includes(asked);
  });
}

function compared(a, b) {
  if (a === null || b === null) return (a === null) - (b === null); // missing values come last
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

function listRows() {
  const asked = byId("filter").value.trim().toLowerCase();
  listed = ids.map((_, row) => row).filter((row) => !asked || matches(row, asked));
  const keys = new Map(listed.map((row) => [row, cell(row, sorted.column)]));
  listed.sort((a, b) => (sorted.down ? -1 : 1) * compared(keys.get(a), keys.get(b)) || a - b);
  byId("number").textContent = `${listed.length} of ${ids.length}`;
  byId("images").querySelector("tbody").replaceChildren();
  addRows();
}

function line(row) {
  const found = document.createElement("tr");
  titles.forEach((_, place) => {
    const value = cell(row, place - 1);
    const at = found.insertCell();
    if (place === 0 && pictureOf[row] !== null) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: value });
      at.append(button);
    } else at.textContent = typeof value === "number" ? value.toFixed(columns[place - 1].digits) : (value ?? "–");
    if (typeof value === "string") at.className = "text";
  });
  if (pictureOf[row] !== null) {
    found.className = "pictured";
    found.addEventListener("click", () => openCase(pictureOf[row]));
  }
  return found;
}

function addRows() {
  const body = byId("images").querySelector("tbody");
  const next = listed.slice(body.rows.length, body.rows.length + PART);
  body.append(...next.map(line));
}

function sortBy(column) {
  Object.assign(sorted, { down: sorted.column === column && !sorted.down, column });
  [...byId("images").querySelectorAll("th")].forEach((head, place) => {
    head.setAttribute("aria-sort", place - 1 !== column ? "none" : sorted.down ? "descending" : "ascending");
  });
  listRows();
}

let channelListed = 0;
function showRows() {
  const asks = byId("filter").value || sorted.column === OUTCOME || channelListed !== state.channel;
  channelListed = state.channel;
  if (asks) return listRows();
  [...byId("images").querySelector("tbody").rows].forEach((found, k) => (found.lastChild.textContent = cell(listed[k], titles.length - 2)));
}

const top_ = byId("images").querySelector("thead").insertRow();
titles.forEach((title, place) => {
  const head = document.createElement("th");
  head.className = typeof cell(0, place - 1) === "string" ? "text" : "";
  const button = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: title });
  button.addEventListener("click", () => sortBy(place - 1));
  head.append(button);
  top_.append(head);
});
byId("filter").addEventListener("input", listRows);
new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && addRows(), { root: byId("images"), rootMargin: "400px" }).observe(byId("end"));
sortBy(-1);
if (data.of.length) listeners.push(showRows);
