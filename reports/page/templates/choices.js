// A figure of several states shows the one that is chosen in its list: a slider, where states have an order.
function listOf(plot) {
  return plot.closest("figure").querySelector(".choice select");
}

// A frame says what its state's traces have that the first state's have not.
function showChosen(plot, figure) {
  const list = listOf(plot);
  if (!list) return;
  figure.frames[list.selectedIndex].data.forEach((values, place) => Object.assign(figure.data[place], values));
  delete figure.frames;
}

function chosenText(plot) {
  const list = listOf(plot);
  return list ? `${list.dataset.label}: ${list.selectedOptions[0].text}` : "";
}

function letChoose(plot) {
  for (const control of plot.closest("figure").querySelectorAll(".choice :is(select, input)")) control.disabled = false;
}

function makeSlider(list) {
  const range = document.createElement("input");
  const told = document.createElement("output");
  const tell = () => {
    told.textContent = list.selectedOptions[0].text;
    range.setAttribute("aria-valuetext", told.textContent);
  };
  range.type = "range";
  range.max = list.length - 1;
  range.value = list.selectedIndex;
  range.disabled = true;
  range.autocomplete = "off";
  range.setAttribute("aria-label", list.dataset.label);
  range.addEventListener("input", () => {
    list.selectedIndex = range.valueAsNumber;
    tell();
    list.dispatchEvent(new Event("change"));
  });
  tell();
  list.hidden = true;
  list.after(range, told);
}

for (const list of document.querySelectorAll(".choice select")) {
  const plot = list.closest("figure").querySelector(".plot");
  if ("ordered" in list.dataset) makeSlider(list);
  list.addEventListener("change", () => Plotly.react(plot, { ...figureOf(plot), config: CONFIG }));
}
