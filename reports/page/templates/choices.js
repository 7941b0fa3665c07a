// A figure of several states shows the state that is chosen in its list, or by a slider where states have an order.
function listOf(plot) {
  return plot.closest("figure").querySelector(".choice select");
}

// A frame has the attributes of its state's traces that differ from the first state's.
function applyChoice(plot, figure) {
  const list = listOf(plot);
  if (!list) return;
  figure.frames[list.selectedIndex].data.forEach((values, place) => Object.assign(figure.data[place], values));
  delete figure.frames;
}

function choiceText(plot) {
  const list = listOf(plot);
  return list ? `${list.dataset.label}: ${list.selectedOptions[0].text}` : "";
}

function enableChoice(plot) {
  for (const control of plot.closest("figure").querySelectorAll(".choice :is(select, input)")) control.disabled = false;
}

function makeSlider(list) {
  const range = document.createElement("input");
  const output = document.createElement("output");
  const updateText = () => {
    output.textContent = list.selectedOptions[0].text;
    range.setAttribute("aria-valuetext", output.textContent);
  };
  range.type = "range";
  range.max = list.length - 1;
  range.value = list.selectedIndex;
  range.disabled = true;
  range.autocomplete = "off";
  range.setAttribute("aria-label", list.dataset.label);
  range.addEventListener("input", () => {
    list.selectedIndex = range.valueAsNumber;
    updateText();
    list.dispatchEvent(new Event("change"));
  });
  updateText();
  list.hidden = true;
  list.after(range, output);
}

for (const list of document.querySelectorAll(".choice select")) {
  const plot = list.closest("figure").querySelector(".plot");
  if ("ordered" in list.dataset) makeSlider(list);
  list.addEventListener("change", () => redraw(plot));
}
