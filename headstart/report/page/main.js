// Putting the page together, and again whenever the language or the theme changes.
let neighborShown = REPORT.neighbors.length ? REPORT.neighbors[0].picture : null;

function drawSamples() {
  fill(byId("samples"), ...REPORT.data.samples.map((ids, label) => {
    const strip = element("div", { class: "strip", tabIndex: 0, role: "group", "aria-label": className(label) },
      ...ids.map((id) => card(id, [element("span", { class: "truth" }, splitName(REPORT.pictures[id].split))])));
    return element("div", { class: "sample" }, element("h4", { class: "name" }, className(label)), strip);
  }));
  const rows = byId("samples");
  if (rows.children.length > 12) {
    const rest = [...rows.children].slice(12);
    const more = element("details", {}, element("summary", {}, text("samples.more", { n: number(rest.length) })), ...rest);
    rows.append(more);
  }
}

function drawLeaks() {
  for (const place of document.querySelectorAll("[data-picture]")) fill(place, card(Number(place.dataset.picture), []));
}

function drawNeighbors() {
  if (neighborShown === null) return;
  fill(byId("neighbors-choose"), ...REPORT.neighbors.map((near) => {
    const made = card(near.picture);
    const chooser = made.cloneNode(true);
    chooser.setAttribute("aria-pressed", String(near.picture === neighborShown));
    chooser.addEventListener("click", () => chooseNeighbors(near.picture));
    return chooser;
  }));
  const near = NEIGHBORS.get(neighborShown);
  fill(byId("neighbors-shown"), element("h3", {}, text("neighbors.nearest", { name: fileName(REPORT.pictures[neighborShown].path) })), nearestRow(near));
}

function chooseNeighbors(id) {
  neighborShown = id;
  for (const chooser of byId("neighbors-choose").children) chooser.setAttribute("aria-pressed", String(chooser.dataset.id === String(id)));
  fill(byId("neighbors-shown"), element("h3", {}, text("neighbors.nearest", { name: fileName(REPORT.pictures[id].path) })), nearestRow(NEIGHBORS.get(id)));
}

function drawCharts() {
  readColors();
  drawCounts();
  drawScores();
  drawCurves();
  drawMatrix();
  drawMap();
  drawComparison();
}

function draw() {
  translatePage();
  byId("language").textContent = language === "ko" ? "English" : "한국어";
  byId("language").lang = language === "ko" ? "en" : "ko";
  readColors();
  drawSamples();
  drawLeaks();
  drawLook();
  drawClusters();
  drawHeadParts();
  drawNeighbors();
  drawHeat();
  drawCounts();
  drawScores();
  drawCurves();
  drawMap();
  drawComparison();
}

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

byId("language").addEventListener("click", () => {
  language = language === "ko" ? "en" : "ko";
  remember("language", language);
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  draw();
});
byId("look-work").addEventListener("keydown", pressInLook);
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remember("theme", document.documentElement.dataset.theme);
  drawCharts();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
for (const dialog of document.querySelectorAll("dialog")) {
  // A click on the backdrop hits the dialog itself, one inside hits its children.
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
if (byId("strength")) byId("strength").addEventListener("input", (event) => setStrength(event.target.value / 100));
if (byId("chart-map")) {
  byId("chart-map").addEventListener("keydown", walkMap);
  byId("chart-map").addEventListener("blur", hideTip);
}
addEventListener("scroll", hideTip, { passive: true });
if (["light", "dark"].includes(remembered("theme"))) document.documentElement.dataset.theme = remembered("theme");
setStrength(strength);
draw();
