"use strict";
// A click on a title sorts its table: numbers by their data-value, largest first, text from a to z, and the other way
// round with the next click. What is no number, such as "failed", stays last. No "less than" and no "and" in here: the
// page is XML, too.
const WORDS = new Intl.Collator("en", { numeric: true });

function valueOf(cell) {
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function compare(a, b, sign) {
  const [x, y] = [valueOf(a), valueOf(b)];
  if (x === null ? true : y === null) {
    if (x !== y) return x === null ? 1 : -1;
    return sign * WORDS.compare(a.textContent, b.textContent);
  }
  return sign * (x - y);
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const first = heads[column].dataset.kind === "number" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heads[column].ariaSort === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
  heads.forEach((head) => { head.ariaSort = "none"; });
  heads[column].ariaSort = order;
}

for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.addEventListener("click", () => sortBy(table, column));
  });
}
