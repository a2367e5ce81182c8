// What people say about the concepts: names, colours, verdicts; one step can be undone after the other.

let review = DATA.review;
const atStart = JSON.parse(JSON.stringify(DATA.review));
const watchers = [];
const past = [];
let saved = JSON.stringify(review);

const DRAFT = `conceptseg ${DATA.created} ${DATA.title}`;
const SERVER = DATA.server || null;

/** Call `watcher(rows)` after every change with the rows that changed. */
const watch = (watcher) => watchers.push(watcher);

function className(row) {
  const { name, ignored } = review[row];
  if (!ignored) return name || CONCEPTS[row].ownName;
  const own = name || "Ignore";
  return own.endsWith("*") ? own : own + "*";
}

const isNamed = (row) => Boolean(review[row].name) || review[row].ignored;
const sameClass = (row) => CONCEPTS.flatMap((_, other) => (other !== row && className(other) === className(row) ? [other] : []));

/** Why QuPath would not take a name as one class, or null. */
function whyNot(text) {
  if (text.includes(":")) return "QuPath reads “:” as a sub-class. Leave it out.";
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)) return "No line breaks or control characters.";
  if (text && !text.replace(/\*+$/, "").trim()) return "Give at least one visible character.";
  return null;
}

function change(edit) {
  const before = JSON.stringify(review);
  edit();
  if (JSON.stringify(review) === before) return;
  past.push(before);
  changed(JSON.parse(before));
}

function undo() {
  if (!past.length) return;
  const before = review;
  review = JSON.parse(past.pop());
  changed(before);
}

function changed(before) {
  const rows = review.flatMap((now, row) => (JSON.stringify(now) === JSON.stringify(before[row]) ? [] : [row]));
  keepDraft();
  for (const watcher of watchers) watcher(rows);
}

function setName(row, text) {
  change(() => {
    const own = review[row];
    const plain = text.replace(/\*+$/, "").trim();
    if (text.endsWith("*") && plain) own.ignored = true;
    own.name = plain || null;
    takeClassColour(row);
  });
}

/** QuPath has one colour per class: that of others of the class, or of a class that QuPath knows. */
function takeClassColour(row) {
  const own = review[row];
  const [other] = sameClass(row);
  const known = DATA.classes.find((item) => item.name === className(row) && item.colour);
  if (other !== undefined) Object.assign(own, { colour: [...review[other].colour], chosen: review[other].chosen });
  else if (known && own.name) Object.assign(own, { colour: [...known.colour], chosen: false });
}

function setColour(row, colour) {
  change(() => {
    for (const each of [row, ...sameClass(row)]) Object.assign(review[each], { colour: [...colour], chosen: true });
  });
}

const setIgnored = (row, ignored) => change(() => Object.assign(review[row], { ignored }));

/** The same verdict twice takes it back. */
const setVerdict = (row, verdict) =>
  change(() => Object.assign(review[row], { review: review[row].review === verdict ? null : verdict }));

/** Make one class of two: this row takes the other's name, colour and whether it is ignored. */
function merge(row, other) {
  change(() => {
    const into = review[other];
    if (!into.name && !into.ignored) into.name = CONCEPTS[other].ownName;
    Object.assign(review[row], { name: into.name, ignored: into.ignored, colour: [...into.colour], chosen: into.chosen });
  });
  say(`Concept ${number(row)} is now part of ${className(other)}.`);
}

const number = (row) => CONCEPTS[row].members.map((member) => String(member).padStart(2, "0")).join(" + ");

/** The labels file that `conceptseg labels PROJECT import` takes: all that was said, null for what was taken back. */
function labelsFile() {
  const dictionaries = {};
  review.forEach((own, row) => {
    const told = own.name || own.chosen || own.ignored || own.review;
    if (!told && JSON.stringify(own) === JSON.stringify(atStart[row])) return;
    const fields = { name: own.name, colour: own.chosen ? own.colour : null, ignored: own.ignored, review: own.review };
    const start = atStart[row];
    for (const key of ["name", "colour", "review"]) {
      const before = key === "colour" ? start.chosen : start[key];
      if (fields[key] === null && !before) delete fields[key];
    }
    const { dictionary, members } = CONCEPTS[row];
    dictionaries[dictionary] ??= { concepts: {} };
    for (const member of members) dictionaries[dictionary].concepts[member] = fields;
  });
  return { version: 1, dictionaries };
}

const isSaved = () => saved === JSON.stringify(review);

async function save() {
  const text = JSON.stringify(labelsFile(), null, 2) + "\n";
  const now = JSON.stringify(review);
  if (SERVER) {
    const answer = await post("labels", text);
    if (!answer) return false;
    say(answer.message);
  } else {
    download("conceptseg-labels.json", text, "application/json");
    say("Exported. Take it over with: conceptseg labels PROJECT import conceptseg-labels.json");
  }
  saved = now;
  forgetDraft();
  for (const watcher of watchers) watcher([]);
  return true;
}

async function apply() {
  if (!isSaved() && !(await save())) return;
  say("Renaming the results in the project …");
  const answer = await post("apply", "{}");
  if (answer) say(answer.message, answer.failed > 0);
}

async function post(what, body) {
  try {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${SERVER.token}` };
    const response = await fetch(what, { method: "POST", headers, body });
    const answer = await response.json();
    if (response.ok) return answer;
    say(answer.message, true);
  } catch {
    say("The server does not answer. Start `conceptseg report … --serve` again; nothing was saved.", true);
  }
  return null;
}

// An exported page keeps a draft in the browser, so that a reload loses nothing. Where the browser keeps nothing for
// local files, the question before leaving is what remains.
function keepDraft() {
  if (SERVER) return;
  try {
    localStorage.setItem(DRAFT, JSON.stringify(review));
  } catch {
    return;
  }
}

function forgetDraft() {
  try {
    localStorage.removeItem(DRAFT);
  } catch {
    return;
  }
}

function restoreDraft() {
  if (SERVER) return;
  try {
    const draft = JSON.parse(localStorage.getItem(DRAFT));
    if (Array.isArray(draft) && draft.length === review.length) {
      review = draft;
      say("Your unexported changes were restored.");
    }
  } catch {
    return;
  }
}

window.addEventListener("beforeunload", (event) => {
  if (!isSaved()) event.preventDefault();
});
