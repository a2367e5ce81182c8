// What people say about the concepts: names, colours, verdicts; one step can be undone after the other.

let review = DATA.review;
const atStart = copy(DATA.review);
const watchers = [];
const past = [];
let base = copy(review); // what was saved or exported last; on a server, what the labels are in `version`

const DRAFT = `conceptseg ${DATA.created} ${DATA.title}`;
const SERVER = DATA.server || null;
let version = SERVER && SERVER.version;

function copy(value) {
  return JSON.parse(JSON.stringify(value));
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

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
  const rows = review.flatMap((now, row) => (same(now, before[row]) ? [] : [row]));
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
    if (!told && same(own, atStart[row])) return;
    const fields = fieldsOf(own);
    const start = atStart[row];
    for (const key of ["name", "colour", "review"]) {
      const before = key === "colour" ? start.chosen : start[key];
      if (fields[key] === null && !before) delete fields[key];
    }
    addFields(dictionaries, row, fields);
  });
  return { version: 1, dictionaries };
}

/** The labels of the concepts that were changed here, and of no other: others may have changed those meanwhile. */
function differences() {
  const dictionaries = {};
  review.forEach((own, row) => {
    if (!same(own, base[row])) addFields(dictionaries, row, fieldsOf(own));
  });
  return { version: 1, based_on: version, dictionaries };
}

const fieldsOf = (own) => ({ name: own.name, colour: own.chosen ? own.colour : null, ignored: own.ignored, review: own.review });

function addFields(dictionaries, row, fields) {
  const { dictionary, members } = CONCEPTS[row];
  dictionaries[dictionary] ??= { concepts: {} };
  for (const member of members) dictionaries[dictionary].concepts[member] = fields;
}

const isSaved = () => same(review, base);

async function save() {
  if (SERVER) return saveToServer();
  download("conceptseg-labels.json", JSON.stringify(labelsFile(), null, 2) + "\n", "application/json");
  say("Exported. Take it over with: conceptseg labels PROJECT import conceptseg-labels.json");
  base = copy(review);
  forgetDraft();
  for (const watcher of watchers) watcher([]);
  return true;
}

let saving = null; // one after the other: each goes by the version that the one before made

async function saveToServer() {
  while (saving) await saving;
  saving = sendDifferences();
  try {
    return await saving;
  } finally {
    saving = null;
  }
}

async function sendDifferences() {
  const sent = copy(review);
  const { answer, ok } = await post("labels", JSON.stringify(differences()));
  if (answer && answer.review) takeOver(answer, sent, ok);
  if (ok) say(answer.message);
  return ok;
}

/** What others said counts here, too, except where it was changed here; undo does not bring back what they replaced. */
function takeOver(answer, sent, wasSaved) {
  const before = copy(review);
  const changedHere = sent.map((own, row) => !same(own, base[row]));
  const newer = (rows) => rows.map((own, row) => (!changedHere[row] && same(own, base[row]) ? answer.review[row] : own));
  past.forEach((step, i) => {
    past[i] = JSON.stringify(newer(JSON.parse(step)));
  });
  review = newer(review).map((own, row) => (wasSaved && changedHere[row] && same(own, sent[row]) ? answer.review[row] : own));
  review = copy(review); // rows are edited in place
  base = answer.review;
  version = answer.version;
  changed(before);
}

async function apply() {
  if (!isSaved() && !(await save())) return;
  say("Renaming the results in the project …");
  const { answer, ok } = await post("apply", "{}");
  if (ok) say(answer.message, answer.failed > 0);
}

async function post(what, body) {
  try {
    const headers = { "Content-Type": "application/json", Authorization: `Bearer ${SERVER.token}` };
    const response = await fetch(what, { method: "POST", headers, body });
    const answer = await response.json();
    if (!response.ok) say(answer.message, true);
    return { answer, ok: response.ok };
  } catch {
    say("The server does not answer. Start `conceptseg report … --serve` again; nothing was saved.", true);
  }
  return { answer: null, ok: false };
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
