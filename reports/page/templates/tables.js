// Tables: search, sorting, copies and files, from the texts of the page and the values in data-v.
const main = document.getElementById("content");
const statusLine = document.createElement("p");
statusLine.className = "said";
statusLine.setAttribute("role", "status");
document.body.append(statusLine);

function say(text) {
  statusLine.textContent = text;
}

function button(text, label, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  element.setAttribute("aria-label", label);
  element.addEventListener("click", action);
  return element;
}

function fileName(element, label, ending) {
  const place = element.closest(".block, section").id;
  const words = `${main.dataset.name} ${place} ${label}`.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return `${words.slice(0, 120).replace(/^-+|-+$/g, "")}.${ending}`;
}

function save(text, name, type) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  // Some browsers read the address a little later.
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  say(`Saved ${name}`);
}

// The text that a cell shows. A cell has one value, or a value for each part of its column.
function visibleText(cell) {
  return cell.textContent.replace(/\s+/g, " ").trim();
}

function withoutGlyph(cell) {
  const copy = cell.cloneNode(true);
  for (const picture of copy.querySelectorAll(".glyph, svg")) picture.remove();
  return visibleText(copy);
}

function values(cell) {
  return "v" in cell.dataset ? cell.dataset.v.split("|") : [withoutGlyph(cell)];
}

function headings(table) {
  return [...table.tHead.rows[0].cells];
}

// The rows that a search leaves; all rows without a search.
function rowsOf(table) {
  return [...table.tBodies[0].rows].filter((row) => !row.hidden);
}

function toCsv(table) {
  const names = headings(table).flatMap((cell) =>
    cell.dataset.parts ? cell.dataset.parts.split("|").map((part) => `${withoutGlyph(cell)}: ${part}`) : [withoutGlyph(cell)]);
  const rows = rowsOf(table).map((row) => [...row.cells].flatMap(values));
  const field = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [names, ...rows].map((row) => `${row.map(field).join(",")}\n`).join("");
}

// Rows of the shown texts, each text through `write(text, whether the cell is bold)`.
function printedRows(table, write) {
  return rowsOf(table).map((row) =>
    [...row.cells].map((cell) => write(withoutGlyph(cell), cell.classList.contains("b"))));
}

function toMarkdown(table) {
  const escape = (text) => text.replace(/[\\|`*_[\]<>&#~]/g, (char) => (char === "<" ? "&lt;" : char === "&" ? "&amp;" : `\\${char}`));
  const rows = printedRows(table, (text, strong) => (strong && text ? `**${escape(text)}**` : escape(text)));
  const rule = headings(table).map((cell) => (cell.classList.contains("n") ? "---:" : "---"));
  const lines = [headings(table).map((cell) => escape(withoutGlyph(cell))), rule, ...rows];
  const note = main.dataset.banner ? `\n${escape(main.dataset.banner)}\n` : "";
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("") + note;
}

const LATEX = {
  "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
  "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
  "|": "\\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", '"': "\\textquotedbl{}",
  "−": "$-$", "–": "--", "—": "---", "×": "$\\times$", "±": "$\\pm$", "·": "$\\cdot$", "≈": "$\\approx$", "≤": "$\\leq$",
  "≥": "$\\geq$", "▲": "$\\blacktriangle$", "▼": "$\\blacktriangledown$", "○": "$\\circ$", "…": "\\dots{}",
};

function latexText(text) {
  return [...text.replace(/--/g, "-\u200b-")].map((char) => (char === "\u200b" ? "{}" : LATEX[char] ?? char)).join("");
}

function toLatex(table, label) {
  const line = (cells) => `${cells.join(" & ")} \\\\\n`;
  const write = (text, strong) => (strong && text ? `\\textbf{${latexText(text)}}` : latexText(text));
  const comment = (text) => `% ${text.replace(/\s+/g, " ")}\n`;
  const columns = headings(table).map((cell) => (cell.classList.contains("n") ? "r" : "l")).join("");
  return [
    comment(`${label}; ${main.dataset.name}`),
    main.dataset.banner ? comment(main.dataset.banner) : "",
    comment("Needs the packages booktabs, amssymb and, for quotation marks, fontenc with T1."),
    `\\begin{tabular}{${columns}}\n\\toprule\n`,
    line(headings(table).map((cell) => latexText(withoutGlyph(cell)))),
    "\\midrule\n",
    ...printedRows(table, write).map(line),
    "\\bottomrule\n\\end{tabular}\n",
  ].join("");
}

// Puts a text on the clipboard, with its HTML where there is some. Plain http has no clipboard object: there the browser
// copies a selection.
async function toClipboard(text, html) {
  if (navigator.clipboard && window.ClipboardItem) {
    const parts = { "text/plain": new Blob([text], { type: "text/plain" }) };
    if (html) parts["text/html"] = new Blob([html], { type: "text/html" });
    return navigator.clipboard.write([new ClipboardItem(parts)]);
  }
  const listener = (event) => {
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
    if (html) event.clipboardData.setData("text/html", html);
  };
  document.addEventListener("copy", listener, { once: true });
  if (document.execCommand("copy")) return undefined;
  document.removeEventListener("copy", listener);
  throw new Error("no access to the clipboard");
}

async function copyText(label, text, html) {
  try {
    await toClipboard(text, html);
    say(`Copied ${label}`);
  } catch (error) {
    say(`The browser refused to copy ${label} (${error.message})`);
  }
}

// Copies a table as HTML for documents and spreadsheets, and as text with tabs.
function copy(table, label) {
  const cells = (row) => [...row.cells].map(withoutGlyph);
  const rows = [table.tHead.rows[0], ...rowsOf(table)].map(cells);
  const plain = rows.map((row) => row.join("\t")).join("\n");
  const plainTable = document.createElement("table");
  for (const row of rows) {
    const line = plainTable.insertRow();
    for (const text of row) line.insertCell().textContent = text;
  }
  return copyText(label, plain, plainTable.outerHTML);
}

for (const text of document.querySelectorAll("[data-copy]")) {
  const { copy: label, file } = text.dataset;
  text.before(button("Copy", `Copy ${label}`, () => copyText(label, text.textContent)));
  if (file) text.before(" ", button("Save", `Save ${label}`, () => save(text.textContent, file, "text/plain")));
}

// Numbers come by value and before texts; missing values come last in either direction.
function sortKey(cell) {
  const first = values(cell)[0];
  if (first === "" || first === "–") return { missing: true };
  const number = Number(first);
  return Number.isNaN(number) ? { text: first } : { number };
}

function compareKeys(left, right, sign) {
  if (left.missing || right.missing) return (left.missing ? 1 : 0) - (right.missing ? 1 : 0);
  if ("number" in left && "number" in right) return sign * (left.number < right.number ? -1 : left.number > right.number ? 1 : 0);
  if ("number" in left !== "number" in right) return "number" in left ? -1 : 1;
  return sign * left.text.localeCompare(right.text, undefined, { numeric: true });
}

const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  if (original.length < 2) return;
  headings(table).forEach((heading, column) => {
    const sortButton = document.createElement("button");
    sortButton.type = "button";
    sortButton.className = "sort";
    sortButton.append(...heading.childNodes);
    heading.append(sortButton);
    heading.setAttribute("aria-sort", "none");
    sortButton.addEventListener("click", () => {
      const next = NEXT[heading.getAttribute("aria-sort")];
      for (const other of headings(table)) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const entries = original.map((row) => ({ row, key: sortKey(row.cells[column]) }));
      if (next !== "none") entries.sort((left, right) => compareKeys(left.key, right.key, sign));
      body.append(...entries.map(({ row }) => row));
    });
  });
}

// A field that hides the rows without one of its words.
function search(table, label) {
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: [...row.cells].map(visibleText).join(" ").toLowerCase() }));
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Search";
  field.setAttribute("aria-label", `Search ${label}`);
  const count = document.createElement("output");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const { row, text } of rows) row.hidden = !words.every((word) => text.includes(word));
    count.textContent = field.value.trim() ? `${rowsOf(table).length} of ${rows.length} rows` : "";
  });
  return [field, count];
}

// A menu closes with Escape, and when the focus leaves it.
function closeByLeaving(menu) {
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}

// The controls of a table or figure, in a menu.
function tools(label, ...controls) {
  const menu = document.createElement("details");
  menu.className = "tools";
  const summary = document.createElement("summary");
  summary.textContent = "Save";
  summary.setAttribute("aria-label", `Save or copy ${label}`);
  const box = document.createElement("div");
  box.append(...controls);
  menu.append(summary, box);
  closeByLeaving(menu);
  return menu;
}

for (const box of document.querySelectorAll(".table")) {
  const table = box.querySelector("table");
  const title = box.querySelector(".label");
  const label = visibleText(title);
  sortable(table);
  if ("search" in box.dataset) title.append(...search(table, label));
  title.append(tools(
    label,
    button("Copy", `Copy ${label}`, () => copy(table, label)),
    button("CSV", `Save ${label} as CSV`, () => save(toCsv(table), fileName(box, label, "csv"), "text/csv")),
    button("Markdown", `Save ${label} as Markdown`, () => save(toMarkdown(table), fileName(box, label, "md"), "text/markdown")),
    button("LaTeX", `Save ${label} as LaTeX`, () => save(toLatex(table, label), fileName(box, label, "tex"), "text/x-tex")),
  ));
}
