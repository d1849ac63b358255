// Heat maps, drawn over the image as the backbone saw it.

// Five samples of matplotlib's "inferno", whose lightness rises evenly.
const INFERNO = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

function inferno(value) {
  const place = Math.min(Math.max(value, 0), 1) * (INFERNO.length - 1);
  const below = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[below].map((low, channel) => low + (INFERNO[below + 1][channel] - low) * (place - below));
}

function heatCanvas(grid) {
  const canvas = element("canvas", { width: grid[0].length, height: grid.length, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(grid[0].length, grid.length);
  grid.flat().forEach((value, index) => pixels.data.set([...inferno(value), 255], 4 * index));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function heatTile(id, map) {
  const picture = REPORT.pictures[id];
  const own = map.label === picture.label;
  const name = text("heat.for", { name: className(map.label) });
  const silent = map.grid.flat().every((value) => value === 0);
  return element("figure", { class: "heat" },
    element("div", { class: "layers" }, image(picture, REPORT.heat.views[id]), heatCanvas(map.grid)),
    element("figcaption", {}, element("span", { class: "name" }, name),
      element("span", { class: own ? "tag" : "tag bad" }, text(own ? "heat.own" : "heat.other")),
      silent ? element("p", { class: "note" }, text("heat.silent")) : ""));
}

function heatRow(id, maps) {
  return element("div", { class: "heats" },
    element("figure", { class: "heat" }, image(REPORT.pictures[id], REPORT.heat.views[id]), element("figcaption", {}, text("heat.image"))),
    ...maps.map((map) => heatTile(id, map)));
}

function heatCard(id) {
  return element("div", { class: "heat-card" }, heatRow(id, HEAT.get(id)),
    element("button", { type: "button", class: "link name", on: { click: () => showPicture(id) } },
      fileName(REPORT.pictures[id].path)));
}

function drawHeat() {
  if (!REPORT.heat) return;
  gallery(byId("heat-shown"), [...HEAT.keys()], { first: 12, make: heatCard });
}

function setStrength(value) {
  strength = value;
  document.documentElement.style.setProperty("--strength", String(strength));
}
