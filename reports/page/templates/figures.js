// Figures are drawn when they come near, in the colours of a white page; the style sheet darkens them.
const FONT = { family: "system-ui, sans-serif", size: 13, color: "#1b1f24" };
const GRID = "#e3e7eb";
const PICTURE = { width: 900, extraHeight: 40, scale: 2 };
const PIXELS_PER_INCH = 96;
const PAPER_TEXT = 8;
const PAPER_WIDTHS = [3.3, 6.8];
const BANNER_SIZE = 13;
const LEAST_BOTTOM = 62;
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
  leaveOut(figure);
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

function redraw(plot) {
  return Plotly.react(plot, { ...figureOf(plot), config: CONFIG });
}

async function draw(plot) {
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "begun";
  // Printing does not wait for a promise, even a settled one.
  if (!window.Plotly) await preparation;
  const version = pickVersion;
  await Plotly.newPlot(plot, { ...figureOf(plot), config: CONFIG });
  plot.on("plotly_afterplot", () => fit(plot));
  fit(plot);
  enableChoice(plot);
  plot.dataset.drawn = "done";
  if (version !== pickVersion) redraw(plot);
}

// A text escaped for Plotly, which reads some HTML in texts.
function escapeMarkup(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// A text in lines of at most `length` characters.
function wrapText(text, length) {
  return text.match(new RegExp(`.{1,${length}}(?:\\s|$)|\\S{1,${length}}`, "g")) ?? [];
}

// A figure for a file, `width` pixels wide: on white, with a key and the page's banner. Heights are `scale` times the page's.
function figureForFile(plot, width, scale) {
  const figure = figureOf(plot);
  const key = [...plot.closest("figure").querySelectorAll(".key span[data-symbol]:not([hidden])")];
  const choice = choiceText(plot);
  const hasLines = figure.data.some((trace) => trace.type === "scatter" && /lines/.test(trace.mode ?? "lines") && trace.line?.dash);
  for (const trace of figure.data) trace.showlegend = false;
  for (const entry of key) {
    const { colour, symbol, dash } = entry.dataset;
    figure.data.push({
      type: "scatter", x: [null], y: [null], mode: hasLines ? "lines+markers" : "markers", showlegend: true,
      name: escapeMarkup(withoutGlyph(entry)), marker: { color: colour, symbol, size: 10 }, line: { color: colour, dash },
    });
  }
  if (choice) {
    const marker = { color: "rgba(0, 0, 0, 0)" };
    figure.data.push({ x: [null], y: [null], mode: "markers", showlegend: true, name: escapeMarkup(choice), marker });
  }
  Object.assign(figure.layout, { paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", width });
  if (key.length || choice) {
    figure.layout.showlegend = true;
    const hasTitle = (figure.layout.annotations ?? []).some((text) => text.yref === "paper" && text.y > 0.99);
    const offset = hasTitle ? 36 / figure.layout.height : 0.02;
    figure.layout.legend = { orientation: "h", x: 0, y: 1 + offset, yanchor: "bottom" };
  }
  figure.layout.height = ((figure.layout.height ?? plot.clientHeight) + PICTURE.extraHeight) * scale;
  const margin = { ...figure.layout.margin, b: Math.max(figure.layout.margin?.b ?? 0, LEAST_BOTTOM) };
  for (const side of Object.keys(margin)) margin[side] *= scale;
  const titles = Object.entries(figure.layout).filter(([name, axis]) => /^xaxis/.test(name) && axis.title?.text).map(([, axis]) => axis.title);
  const rows = titles.map((title) => {
    const lines = wrapText(title.text, Math.floor(width / FONT.size / scale / 0.7));
    Object.assign(title, { text: lines.join("<br>"), standoff: 4 });
    return lines.length;
  });
  const more = 1.3 * FONT.size * scale * (Math.max(1, ...rows) - 1);
  figure.layout.height += more;
  margin.b += more;
  if (main.dataset.banner) {
    const size = BANNER_SIZE * scale;
    const lines = wrapText(main.dataset.banner, Math.floor(width / size / 0.6));
    const space = 1.4 * size * lines.length;
    figure.layout.height += space;
    margin.b += space;
    const text = lines.map(escapeMarkup).join("<br>");
    const font = { size, color: "#8a2f00" };
    figure.layout.title = { text, font, x: 0.01, xanchor: "left", y: space / figure.layout.height, yanchor: "top", yref: "container" };
  }
  figure.layout.height = Math.round(figure.layout.height);
  figure.layout.margin = margin;
  return figure;
}

function named(plot, label, format) {
  return fileName(plot, label, format).replace(/\.\w+$/, "");
}

async function savePicture(plot, label) {
  await preparation;
  const figure = figureForFile(plot, PICTURE.width, 1);
  const filename = named(plot, label, "png");
  const { width, height } = figure.layout;
  await Plotly.downloadImage(figure, { format: "png", filename, width, height, scale: PICTURE.scale });
  say(`Saved ${filename}.png`);
}

// Sets every font's size below `part`, a part of a figure.
function setFonts(part, size) {
  for (const [name, value] of Object.entries(part)) {
    if (/font$/.test(name)) part[name] = { ...value, size };
    else if (value && typeof value === "object") setFonts(value, size);
  }
}

// A figure as SVG for a paper: `inches` wide, with text of PAPER_TEXT points.
async function paperDrawing(plot, inches) {
  await preparation;
  const size = PAPER_TEXT * PIXELS_PER_INCH / 72;
  const figure = figureForFile(plot, inches * PIXELS_PER_INCH, size / FONT.size);
  const { layout } = figure;
  const bars = figure.data.map((trace) => trace.colorbar ?? trace.marker?.colorbar);
  for (const part of [...Object.values(layout), ...bars]) if (part?.title) part.title.font ??= {};
  // Plotly would print the digits between powers of ten in smaller type.
  for (const axis of Object.values(layout)) if (axis?.type === "log") axis.tickformat = "~g";
  setFonts(layout, size);
  setFonts(figure.data, size);
  const address = await Plotly.toImage(figure, { format: "svg", width: layout.width, height: layout.height });
  const { documentElement: drawing } = new DOMParser().parseFromString(decodeURIComponent(address.split(",", 2)[1]), "image/svg+xml");
  drawing.setAttribute("width", `${inches}in`);
  drawing.setAttribute("height", `${layout.height / PIXELS_PER_INCH}in`);
  return { text: new XMLSerializer().serializeToString(drawing), height: layout.height / PIXELS_PER_INCH };
}

async function saveDrawing(plot, label, inches) {
  const { text } = await paperDrawing(plot, inches);
  save(text, `${named(plot, `${label} ${inches} in`, "svg")}.svg`, "image/svg+xml");
}

// Prints a figure alone on a page of its size: the browser's printer "Save as PDF" keeps it as vectors and text.
async function printDrawing(plot, label, inches) {
  const { text, height } = await paperDrawing(plot, inches);
  const sheet = document.createElement("img");
  sheet.className = "sheet";
  sheet.alt = label;
  sheet.src = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  await sheet.decode();
  const style = document.createElement("style");
  style.textContent = `@page { size: ${inches}in ${height}in; margin: 0; @bottom-right { content: none; } }`;
  const { title } = document;
  document.title = named(plot, `${label} ${inches} in`, "pdf");
  document.body.append(style, sheet);
  addEventListener("afterprint", () => {
    document.title = title;
    URL.revokeObjectURL(sheet.src);
    sheet.remove();
    style.remove();
  }, { once: true });
  say(`Choose “Save as PDF”: the page is ${inches} inches wide`);
  print();
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
    box.setAttribute("aria-label", figure.getAttribute("aria-label"));
    box.append(numbersTable(await numbersOf(plot), label));
    numbers.append(box);
  }, { once: true });
  caption.after(tools(
    label,
    button("PNG", `Save ${label} as PNG`, () => savePicture(plot, label)),
    ...PAPER_WIDTHS.map((inches) =>
      button(`SVG, ${inches} in`, `Save ${label} as SVG, ${inches} inches wide`, () => saveDrawing(plot, label, inches))),
    ...PAPER_WIDTHS.map((inches) =>
      button(`PDF, ${inches} in`, `Print ${label} as PDF, ${inches} inches wide`, () => printDrawing(plot, label, inches))),
    button("CSV", `Save the numbers of ${label} as CSV`, async () => save(await numbersOf(plot), fileName(plot, label, "csv"), "text/csv")),
  ));
  plotObserver.observe(plot);
}

// On paper the groups of verdicts are open, and all figures of open parts are drawn.
function showAll() {
  if (document.querySelector("body > .sheet")) return;
  for (const group of document.querySelectorAll("details.group:not(.on-screen)")) group.open = true;
  for (const plot of document.querySelectorAll(".plot")) if (plot.checkVisibility()) draw(plot);
}

addEventListener("beforeprint", showAll);
matchMedia("print").addEventListener("change", showAll);
