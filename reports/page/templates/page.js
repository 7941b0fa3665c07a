"use strict";
// The theme is the system's until the button is used; the contents mark the section in view.
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function labelTheme() {
  themeButton.innerHTML = `${isDark() ? "Light" : "Dark"}<span> theme</span>`;
}

themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  labelTheme();
});
systemDark.addEventListener("change", labelTheme);
labelTheme();

const contents = new Map();
for (const link of document.querySelectorAll("nav a")) {
  contents.set(document.getElementById(link.hash.slice(1)), link);
}
const sectionObserver = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of contents.values()) link.removeAttribute("aria-current");
    contents.get(entry.target).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-15% 0px -80% 0px" });
for (const section of contents.keys()) sectionObserver.observe(section);

// A link into a closed part opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const closed = [];
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) {
    if (!part.open) closed.push(part);
    part.open = true;
  }
  if (closed.length) target.scrollIntoView();
}

addEventListener("hashchange", openTarget);
openTarget();
