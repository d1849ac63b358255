// Texts, numbers and elements. Everything that comes from the data enters the page as text, never
// as markup, so that a file or class name cannot do anything there.
const REPORT = JSON.parse(document.getElementById("report").textContent);
const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const PERCENT_METRICS = new Set(REPORT.percent_metrics);

function remembered(key) {
  // Storage is refused in some browsers for pages opened from a file.
  try { return localStorage.getItem("headstart." + key); } catch { return null; }
}

function remember(key, value) {
  try { localStorage.setItem("headstart." + key, value); } catch { /* Then only for this visit. */ }
}

let language = remembered("language") || (navigator.language.startsWith("ko") ? "ko" : "en");

function has(key) {
  return Object.hasOwn(TEXTS, key);
}

function text(key, values = {}) {
  const entry = TEXTS[key][language];
  return entry.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

function number(value) {
  return new Intl.NumberFormat(language).format(value);
}

function percent(share, digits = 1) {
  const options = { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, options).format(share);
}

function factText({ text: key, values }) {
  const written = Object.entries(values).map(([name, value]) => [name, typeof value === "number" ? number(value) : value]);
  return text(key, Object.fromEntries(written));
}

function metricName(metric) {
  return has("metric." + metric) ? text("metric." + metric) : metric;
}

function metricValue(metric, value) {
  return PERCENT_METRICS.has(metric) ? percent(value) : value.toFixed(3);
}

function splitName(split) {
  return text("split." + split);
}

function className(label) {
  return REPORT.class_names[label];
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (name === "style") for (const [key, what] of Object.entries(value)) made.style.setProperty(key, what);
    else if (name === "class") made.className = value;
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function fill(place, ...children) {
  place.replaceChildren(...children.filter((child) => child !== null));
}

function byId(id) {
  return document.getElementById(id);
}

// `so` becomes code.
function coded(told) {
  return told.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function translatePage() {
  document.documentElement.lang = language;
  document.title = (REPORT.run.source ? `${REPORT.run.source} – ` : "") + text("title");
  for (const place of document.querySelectorAll("[data-t]")) {
    const told = text(place.dataset.t, JSON.parse(place.dataset.a || "{}"));
    // What is filled in comes from the data and keeps its backquotes.
    if (TEXTS[place.dataset.t][language].includes("`")) {
      fill(place, ...coded(told));
    } else {
      place.textContent = told;
    }
  }
  for (const place of document.querySelectorAll("[data-t-label]")) {
    place.setAttribute("aria-label", text(place.dataset.tLabel));
  }
}
