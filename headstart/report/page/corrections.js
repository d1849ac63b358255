// Corrections: those that the run was made with, what people decide on this page, and the file that
// holds both.
const LOOK = REPORT.look;
const BEFORE = new Map(LOOK.corrections.map(({ sha256, action, label, note }) => [sha256, { action, label, note }]));
const DECISIONS = "look." + LOOK.run;
const ACTIONS = new Set(["keep", "relabel", "drop"]);
// By digest of the image; null takes out what was there before.
const decided = new Map(rememberedDecisions());
// Notes that belong to no decision yet.
const drafts = new Map();

function rememberedDecisions() {
  try {
    return JSON.parse(remembered(DECISIONS) || "[]").filter(([sha256, one]) => typeof sha256 === "string"
      && (one === null || (ACTIONS.has(one.action) && typeof one.label === "string" && typeof one.note === "string")));
  } catch { return []; }
}

function decision(sha256) {
  return decided.has(sha256) ? decided.get(sha256) : BEFORE.get(sha256) || null;
}

function decide(sha256, one) {
  const before = BEFORE.get(sha256) || null;
  if (JSON.stringify(one) === JSON.stringify(before)) decided.delete(sha256);
  else decided.set(sha256, one);
  remember(DECISIONS, JSON.stringify([...decided]));
}

// Undoes what was decided here; of a correction from before, the correction, and the other way round.
function takeBack(sha256) {
  decide(sha256, decided.has(sha256) ? BEFORE.get(sha256) || null : null);
}

function allCorrections() {
  const all = new Map(BEFORE);
  for (const [sha256, one] of decided) {
    if (one) all.set(sha256, one);
    else all.delete(sha256);
  }
  return all;
}

function field(value) {
  return /[",\r\n]|^\s|\s$/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

// Spreadsheets compute what begins so. A note loses nothing by an apostrophe; a label is the name of
// a class and stays as it is.
function harmless(note) {
  return /^[=+\-@\t\r]/.test(note) ? "'" + note : note;
}

function correctionsTable() {
  const lines = [...allCorrections()].map(([sha256, { action, label, note }]) => [sha256, action, label, harmless(note)]);
  return [["sha256", "action", "label", "note"], ...lines].map((line) => line.map(field).join(",") + "\n").join("");
}

function saveCorrections() {
  const address = URL.createObjectURL(new Blob([correctionsTable()], { type: "text/csv;charset=utf-8" }));
  element("a", { href: address, download: "corrections.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

function toldDecision(one) {
  return one ? text("decision." + one.action, { label: one.label }) : text("decision.none");
}

// The number of a class on the keyboard; only the first nine have one.
function numbered(label) {
  return label < 9 ? `${label + 1} · ${className(label)}` : className(label);
}

// A correction holds for all copies of an image, and what the run was made with is replaced by it. So
// a label stays by name where a copy has another, or where only a correction from before gave it.
function keeping({ sha256, given, kind }) {
  const before = BEFORE.get(sha256);
  const named = kind === "conflict" || Boolean(before && before.action === "relabel" && before.label === given);
  return named ? { action: "relabel", label: given } : { action: "keep", label: "" };
}

// What decides on one image: { sha256, given, suggested, kind }. `after` is called with what was done:
// "keep", "relabel", "drop", "undo", or "note" where only the note has changed. `undo` is what that
// button does where it does more.
function correctionControls(item, after, undo = () => act("undo")) {
  const { sha256, given, suggested } = item;
  const now = decision(sha256);
  const done = now && (now.action === "relabel" && now.label === given ? "keep" : now.action);
  const others = REPORT.class_names.map((_, label) => label).filter((label) => className(label) !== given);
  const wished = done === "relabel" ? now.label : suggested || (others.length === 1 ? className(others[0]) : "");
  const known = others.some((label) => className(label) === wished);
  const select = element("select", { "data-act": "class", "aria-label": text("correct.class") },
    element("option", { value: "", selected: !known }, text("correct.choose")),
    ...others.map((label) => element("option", { value: className(label), selected: className(label) === wished }, numbered(label))));
  const fresh = element("input", { type: "text", "data-act": "new", value: known ? "" : wished, autocomplete: "off",
    placeholder: text("correct.new"), "aria-label": text("correct.new") });
  const note = element("input", { type: "text", "data-act": "note", autocomplete: "off",
    value: now ? now.note : drafts.get(sha256) || "" });
  // Where keys decide, and nothing else has the focus: among the suspects.
  const key = (name) => (item.kind ? element("kbd", { "aria-hidden": "true" }, name) : null);
  const shortcut = (name) => (item.kind ? { "aria-keyshortcuts": name } : {});
  const button = (action, letter) => element("button", { type: "button", class: `act ${action}`, "data-act": action,
    "aria-pressed": String(done === action), ...shortcut(letter),
    // The second click of a double click would decide on the next image.
    on: { click: (event) => { if (event.detail < 2) act(action); } } }, element("span", { class: "name" }), key(letter));
  const keep = button("keep", "K");
  const relabel = button("relabel", "R");
  const drop = button("drop", "D");
  const back = element("button", { type: "button", class: "act", "data-act": "undo", ...shortcut("U"),
    on: { click: () => undo() } }, text("correct.undo"), key("U"));
  const target = () => fresh.value.trim() || select.value;

  function name() {
    const label = target();
    keep.firstChild.textContent = text("correct.keep", { label: given });
    relabel.firstChild.textContent = label ? text("correct.relabel", { label }) : text("correct.relabel.none");
    relabel.disabled = !label || label === given;
    drop.firstChild.textContent = text("correct.drop");
  }

  function act(action) {
    if (action === "undo") takeBack(sha256);
    else if (action === "relabel" && relabel.disabled) return;
    else {
      const what = action === "keep" ? keeping(item) : { action, label: action === "relabel" ? target() : "" };
      decide(sha256, { ...what, note: note.value.trim() });
    }
    drafts.delete(sha256);
    after(action);
  }

  function choose(step) {
    const options = [...select.options].slice(1).map((option) => option.value);
    const place = options.indexOf(select.value);
    fresh.value = "";
    select.value = options[place < 0 ? (step > 0 ? 0 : options.length - 1) : (place + step + options.length) % options.length];
    name();
  }

  select.addEventListener("change", () => { fresh.value = ""; name(); });
  fresh.addEventListener("input", name);
  fresh.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) act("relabel"); });
  note.addEventListener("change", () => {
    const one = decision(sha256);
    if (!one) drafts.set(sha256, note.value.trim());
    else if (one.note !== note.value.trim()) {
      decide(sha256, { ...one, note: note.value.trim() });
      after("note");
    }
  });
  name();
  const made = element("div", { class: "acts" }, element("p", {}, text("correct.question")), keep,
    element("div", { class: "to" }, relabel, select, fresh), drop, back,
    element("label", { class: "pick" }, text("correct.note"), note));
  return { made, act, choose,
    pick: (label) => {
      if (label >= REPORT.class_names.length || className(label) === given) return;
      select.value = className(label);
      fresh.value = "";
      name();
    } };
}
