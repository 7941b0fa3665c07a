"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");

function themed(layout, isDark) {
  const text = isDark ? "#e6e9ed" : "#1b1f24";
  const grid = isDark ? "#343b44" : "#e3e7eb";
  const changes = { "font.color": text, "font.family": "system-ui, sans-serif", "font.size": 13 };
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) {
      changes[key + ".gridcolor"] = grid;
      changes[key + ".linecolor"] = grid;
    }
  }
  return changes;
}

function recolour(isDark) {
  for (const plot of document.querySelectorAll(".plot")) {
    if (plot.layout) Plotly.relayout(plot, themed(plot.layout, isDark));
  }
}

const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage"]] };
for (const source of document.querySelectorAll("script[data-figure]")) {
  const figure = JSON.parse(source.textContent);
  const plot = document.getElementById(source.dataset.figure);
  Plotly.newPlot(plot, figure.data, figure.layout, options).then(
    () => Plotly.relayout(plot, themed(plot.layout, dark.matches)));
}
dark.addEventListener("change", () => recolour(dark.matches));
addEventListener("beforeprint", () => recolour(false));
addEventListener("afterprint", () => recolour(dark.matches));
