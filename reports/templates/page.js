// Everything is visible without this script. It folds, filters, sorts and finds what a link names.
"use strict";

const folds = [...document.querySelectorAll("details[data-fold]")];
for (const fold of folds) fold.open = false;

let opened = [];
addEventListener("beforeprint", () => {
  opened = folds.filter((fold) => !fold.open);
  for (const fold of opened) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of opened) fold.open = false;
});

addEventListener("keydown", ({key}) => {
  if (key === "Escape") for (const facts of document.querySelectorAll(".sortable details[open]")) facts.open = false;
});

const tables = [...document.querySelectorAll("section.cases")].map(equip);

function equip(section) {
  const form = section.querySelector("form.tools");
  const table = section.querySelector("table.sortable");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({
    row,
    parts: row.id.slice(table.dataset.prefix.length).split("/"),
    status: row.dataset.status ?? "measured",
    text: `${row.id} ${row.textContent}`.toLowerCase(),
  }));
  for (const {row} of rows) {
    // A row can be linked without this; the link spares looking for its name.
    const link = document.createElement("a");
    link.className = "self";
    link.href = "#" + row.id.split("/").map(encodeURIComponent).join("/");
    link.title = `Link to ${row.id}`;
    const name = row.cells[0].firstChild;
    name.replaceWith(link);
    link.append(name);
  }
  const search = form.querySelector("input");
  const choices = [...form.querySelectorAll("select[data-part]")];
  const order = form.querySelector("select[data-sort]");
  const count = form.querySelector("output");
  form.hidden = false;

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = choices.filter((choice) => choice.value).map((choice) => [Number(choice.dataset.part), choice.value]);
    let shown = 0;
    for (const entry of rows) {
      const fits = words.every((word) => entry.text.includes(word)) &&
        wanted.every(([part, value]) => (part < 0 ? entry.status : entry.parts[part]) === value);
      entry.row.hidden = !fits;
      shown += fits;
    }
    count.value = `${shown} of ${rows.length} cases`;
  }

  const heads = [...table.tHead.rows[0].cells];
  function sort(column, direction) {
    const key = ({row}) => {
      const cell = row.cells[column];
      if (!("n" in heads[column].dataset)) return cell.textContent.trim();
      return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    };
    const keyed = rows.map((entry) => [key(entry), entry.row]);
    // A row without a number comes last in either direction.
    keyed.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null)
      : direction * (typeof a === "number" ? a - b : a.localeCompare(b, "en", {numeric: true})));
    body.append(...keyed.map(([, row]) => row));
    heads.forEach((head, at) => at === column
      ? head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending")
      : head.removeAttribute("aria-sort"));
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
    order.add(new Option(button.textContent, column));
  });
  order.addEventListener("change", () => {
    if (order.value !== "") return sort(Number(order.value), 1);
    body.append(...rows.map(({row}) => row));
    for (const head of heads) head.removeAttribute("aria-sort");
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(() => { filter(); order.dispatchEvent(new Event("change")); }));

  function showAll() {
    search.value = "";
    for (const choice of choices) choice.value = "";
    filter();
  }
  return {body, showAll};
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (const {body, showAll} of tables) {
    if (body.contains(target) && target.closest("tr").hidden) showAll();
  }
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.querySelector(":scope > details[data-fold]")?.setAttribute("open", "");
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
