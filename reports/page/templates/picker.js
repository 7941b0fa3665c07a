// One picker for the whole page: the methods that its figures show. An entry of a figure's key leaves its method out too.
const picker = document.getElementById("picker");
const picks = picker ? [...picker.querySelectorAll("input")] : [];
const firstPicks = picks.filter((box) => box.checked);
let pickVersion = 0;

function isPicked(method) {
  const box = picks.find((other) => other.value === method);
  return !box || box.checked;
}

// A figure without the traces of the methods that are left out. A trace has its method's name escaped for Plotly.
function leaveOut(figure) {
  const left = new Set(picks.filter((box) => !box.checked).map((box) => escapeMarkup(box.value)));
  figure.data = figure.data.filter((trace) => !left.has(trace.meta));
}

function showPicks() {
  const count = picks.filter((box) => box.checked).length;
  picker.querySelector("summary").textContent = `Methods: ${count} of ${picks.length}`;
  for (const part of document.querySelectorAll("figure[data-method], .key [data-method]")) {
    part.hidden = !isPicked(part.dataset.method);
  }
}

function pick(boxes) {
  for (const box of picks) box.checked = boxes.includes(box);
  showPicks();
  pickVersion += 1;
  for (const plot of document.querySelectorAll("figure:has(.key [data-method]) .plot[data-drawn='done']")) redraw(plot);
  say(`${boxes.length} of ${picks.length} methods in the figures`);
}

if (picker) {
  const fieldset = picker.querySelector("fieldset");
  // The last method stays.
  fieldset.addEventListener("change", (event) => {
    const boxes = picks.filter((box) => box.checked);
    pick(boxes.length ? boxes : [event.target]);
  });
  const actions = [button("All", "All methods", () => pick(picks))];
  if (firstPicks.length < picks.length) actions.push(button("Best and baseline", "The best methods and the baseline", () => pick(firstPicks)));
  fieldset.querySelector("legend").after(...actions);
  for (const entry of document.querySelectorAll(".key [data-method]")) {
    const box = picks.find((other) => other.value === entry.dataset.method);
    if (!box) continue;
    entry.title = "Leave out of all figures; the menu “Methods” brings it back";
    entry.addEventListener("click", () => box.click());
  }
  closeByLeaving(picker);
  picker.hidden = false;
  showPicks();
}
