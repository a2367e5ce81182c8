// Put the parts together.

function makeTop() {
  byId("title").textContent = DATA.title;
  const polygons = CONCEPTS.reduce((sum, concept) => sum + concept.polygons, 0);
  const known = CONCEPTS.every((concept) => concept.areaUm2 !== null);
  const total = CONCEPTS.reduce((sum, concept) => sum + concept.areaUm2, 0);
  byId("facts").textContent = [
    SLIDES.length === 1 ? "1 slide" : `${count(SLIDES.length)} slides`,
    CONCEPTS.length === 1 ? "1 concept" : `${count(CONCEPTS.length)} concepts`,
    `${count(polygons)} polygons`,
    ...(known && CONCEPTS.length ? [area(total)] : []),
  ].join(" · ");
  const notes = SLIDES.flatMap((slide) => (slide.note ? [el("li", {}, name(slide.name), ": ", name(slide.note))] : []));
  if (!CONCEPTS.length) notes.push(el("li", {}, "There are no ConceptSeg results yet. Segment something first: conceptseg annotate PROJECT."));
  const learned = new Set(CONCEPTS.map((concept) => concept.dictionary).filter((id) => id.startsWith("learned-")));
  if (learned.size && SLIDES.length > 1) {
    notes.push(el("li", {}, `Concepts of ${[...learned].join(", ")} were learned from each image by itself: the same number on two slides need not be the same tissue.`));
  }
  byId("notes").append(...notes);
}

function makeToolbar() {
  const saveButton = byId("save");
  saveButton.textContent = SERVER ? "Save to project" : "Export labels";
  saveButton.title = SERVER ? `Writes ${SERVER.file}` : "Downloads conceptseg-labels.json for `conceptseg labels PROJECT import`";
  saveButton.addEventListener("click", save);
  byId("undo").addEventListener("click", undo);
  byId("apply").hidden = !SERVER;
  byId("apply").title = "Renames, recolours and merges what is in the project already; the project must be closed in QuPath";
  byId("apply").addEventListener("click", apply);
  const refresh = () => {
    const done = CONCEPTS.filter((_, row) => isNamed(row)).length;
    byId("named").max = Math.max(CONCEPTS.length, 1);
    byId("named").value = done;
    byId("named-text").textContent = `${done} of ${CONCEPTS.length} named`;
    byId("undo").disabled = !past.length;
    saveButton.classList.toggle("due", !isSaved());
    const names = new Set([...DATA.classes.map((item) => item.name), ...review.flatMap((own) => (own.name ? [own.name] : []))]);
    byId("names").replaceChildren(...[...names].map((value) => el("option", { value })));
  };
  watch(refresh);
  refresh();
}

restoreDraft();
makeTop();
makeViewer();
makeCards();
makeToolbar();
makeComposition();
makePairs();
makeProvenance();
makeKeys();
window.addEventListener("load", () => setTimeout(drawRest, 500));
document.documentElement.dataset.ready = "yes";
