// Figures are drawn when they come near, in the colours of a white page; the style sheet darkens them.
const FONT = { family: "system-ui, sans-serif", size: 13, color: "#1b1f24" };
const GRID = "#e3e7eb";
const PICTURE = { width: 900, extraHeight: 40, scale: 2 };
const CONFIG = { responsive: true, displayModeBar: false };

// The text of a packed element of the page.
async function unpack(id) {
  const packed = document.getElementById(id);
  if (!packed) return "";
  const binary = atob(packed.textContent);
  packed.remove();
  const bytes = new Uint8Array(binary.length);
  for (let place = 0; place < bytes.length; place += 1) bytes[place] = binary.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

// The figures with their numbers, a line of JSON each, and Plotly are unpacked once the text is shown. Plotly comes last:
// once Plotly is there, the lines are there too.
let lines = [];

async function prepare() {
  lines = (await unpack("packed-data")).split("\n");
  const script = document.createElement("script");
  script.textContent = await unpack("packed-library");
  document.head.append(script);
}

const preparation = prepare();
preparation.catch(() => say("This browser cannot unpack the figures; results.csv has their runs"));

function figureData(plot) {
  return JSON.parse(lines[Number(plot.dataset.line)]);
}

// The numbers of a figure as CSV.
async function numbersOf(plot) {
  await preparation;
  return figureData(plot).numbers;
}

function figureOf(plot) {
  const { figure } = figureData(plot);
  applyChoice(plot, figure);
  figure.layout.font = { ...FONT, ...figure.layout.font };
  for (const [name, axis] of Object.entries(figure.layout)) {
    if (!/^[xy]axis\d*$/.test(name)) continue;
    Object.assign(axis, { gridcolor: GRID, linecolor: GRID });
    if (axis.title) axis.title.font = { size: FONT.size, ...axis.title.font };
  }
  return figure;
}

// A drawing scales with its box, so that it fits on paper too.
function fit(plot) {
  const { width, height } = plot._fullLayout;
  plot.style.setProperty("--width", width);
  plot.style.setProperty("--height", height);
  for (const drawing of plot.querySelectorAll(".main-svg")) {
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }
}

async function draw(plot) {
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "begun";
  // Printing does not wait for a promise, even a settled one.
  if (!window.Plotly) await preparation;
  await Plotly.newPlot(plot, { ...figureOf(plot), config: CONFIG });
  plot.on("plotly_afterplot", () => fit(plot));
  fit(plot);
  enableChoice(plot);
  plot.dataset.drawn = "done";
}

// A text escaped for Plotly, which reads some HTML in texts.
function escapeMarkup(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

// A text in lines that fit a saved picture.
function wrapText(text) {
  return text.match(/.{1,130}(?:\s|$)|\S{1,130}/g) ?? [];
}

// A figure for a file: on white, with a key and the page's banner.
function figureForFile(plot) {
  const figure = figureOf(plot);
  const key = [...plot.closest("figure").querySelectorAll(".key span[data-symbol]")];
  const choice = choiceText(plot);
  for (const trace of figure.data) trace.showlegend = false;
  for (const entry of key) {
    figure.data.push({
      type: "scatter", x: [null], y: [null], mode: "markers", showlegend: true,
      name: escapeMarkup(withoutGlyph(entry)),
      marker: { color: entry.dataset.colour, symbol: entry.dataset.symbol, size: 10 },
    });
  }
  if (choice) {
    const marker = { color: "rgba(0, 0, 0, 0)" };
    figure.data.push({ x: [null], y: [null], mode: "markers", showlegend: true, name: escapeMarkup(choice), marker });
  }
  Object.assign(figure.layout, { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", width: PICTURE.width });
  if (key.length || choice) {
    figure.layout.showlegend = true;
    const hasTitle = (figure.layout.annotations ?? []).some((text) => text.yref === "paper" && text.y > 0.99);
    const offset = hasTitle ? 36 / figure.layout.height : 0.02;
    figure.layout.legend = { orientation: "h", x: 0, y: 1 + offset, yanchor: "bottom" };
  }
  if (main.dataset.banner) {
    const lines = wrapText(main.dataset.banner);
    const text = lines.map(escapeMarkup).join("<br>");
    const font = { size: 11, color: "#8a2f00" };
    figure.layout.title = { text, font, x: 0.01, xanchor: "left", y: 0.01, yanchor: "bottom", yref: "container" };
    figure.layout.margin = { ...figure.layout.margin, b: 64 + 16 * lines.length };
  }
  return figure;
}

async function saveFigure(plot, label, format) {
  await preparation;
  const figure = figureForFile(plot);
  const filename = fileName(plot, label, format).replace(/\.\w+$/, "");
  const { width, height = plot.clientHeight } = figure.layout;
  const scale = format === "png" ? PICTURE.scale : 1;
  await Plotly.downloadImage(figure, { format, filename, width, height: height + PICTURE.extraHeight, scale });
  say(`Saved ${filename}.${format}`);
}

// Fields in quotes may hold commas, line ends and doubled quotes.
function parseCsv(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") rows.push([]);
    if (end === "") break;
  }
  return rows.filter((row) => row.length > 1 || row[0] !== "");
}

function numbersTable(csv, label) {
  const [names, ...rows] = parseCsv(csv);
  const numeric = names.map((_, column) => rows.every((row) => row[column] === "" || !Number.isNaN(Number(row[column]))));
  const table = document.createElement("table");
  table.createCaption().textContent = label;
  const fill = (row, texts, tag) => texts.forEach((text, column) => {
    const cell = row.appendChild(document.createElement(tag));
    cell.textContent = text;
    if (tag === "th") cell.scope = "col";
    if (numeric[column]) cell.className = "n";
  });
  fill(table.createTHead().insertRow(), names, "th");
  const body = table.createTBody();
  for (const row of rows) fill(body.insertRow(), row, "td");
  sortable(table);
  return table;
}

const plotObserver = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      plotObserver.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, { rootMargin: "600px" });

for (const plot of document.querySelectorAll(".plot")) {
  const figure = plot.closest("figure");
  const caption = figure.querySelector("figcaption");
  const label = visibleText(caption);
  const numbers = figure.querySelector(".numbers");
  numbers.addEventListener("toggle", async () => {
    const box = document.createElement("div");
    box.className = "scroll tall";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", label);
    box.append(numbersTable(await numbersOf(plot), label));
    numbers.append(box);
  }, { once: true });
  caption.after(tools(
    label,
    button("PNG", `Save ${label} as PNG`, () => saveFigure(plot, label, "png")),
    button("SVG", `Save ${label} as SVG`, () => saveFigure(plot, label, "svg")),
    button("CSV", `Save the numbers of ${label} as CSV`, async () => save(await numbersOf(plot), fileName(plot, label, "csv"), "text/csv")),
  ));
  plotObserver.observe(plot);
}

// On paper the groups of verdicts are open, and all figures of open parts are drawn.
function showAll() {
  for (const group of document.querySelectorAll("details.group")) group.open = true;
  for (const plot of document.querySelectorAll(".plot")) if (plot.checkVisibility()) draw(plot);
}

addEventListener("beforeprint", showAll);
matchMedia("print").addEventListener("change", showAll);
