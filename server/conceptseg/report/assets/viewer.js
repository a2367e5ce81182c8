// One slide with its polygons: drag, zoom, switch concepts on and off.

const MOST_ZOOM = 24;
const viewer = {};

function makeViewer() {
  if (!SLIDES.length) {
    byId("viewer").append(el("p", { class: "muted" }, "There are no slides."));
    return;
  }
  const hidden = new Set();
  let slide = 0;
  let image = null;
  let layers = [];
  let picked = null;
  let view = { zoom: 1, x: 0, y: 0 }; // screen = picture · zoom + (x, y), in CSS px
  let fitted = true;

  const canvas = el("canvas", { class: "slide", tabindex: "0", role: "img" });
  const choose = el("select", { "aria-label": "Slide", onchange: () => show(Number(choose.value)) },
    ...SLIDES.map((item, i) => el("option", { value: i }, item.name)));
  const opacity = el("input", { type: "range", min: "0", max: "100", value: "45", "aria-label": "Opacity of the concepts", oninput: () => draw() });
  const outlines = el("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const button = (text, label, action) => el("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  const legend = el("ul", { class: "legend" });
  const found = el("p", { class: "found", role: "status" }, "Click a polygon for its numbers.");
  const note = el("p", { class: "error" });
  const scaleBar = el("div", { class: "scale" });
  const stage = el("div", { class: "stage" }, canvas, scaleBar);
  byId("viewer").append(
    el("div", { class: "viewer-bar" },
      button("‹", "Previous slide  [", () => step(-1)), choose, button("›", "Next slide  ]", () => step(1)),
      button("+", "Zoom in  +", () => zoomBy(1.5)), button("−", "Zoom out  -", () => zoomBy(1 / 1.5)), button("Fit", "Whole slide  0", fit),
      el("label", {}, "Opacity ", opacity), el("label", {}, outlines, " outlines"),
      button("All", "Show all concepts", () => toggleAll(true)), button("None", "Hide all concepts", () => toggleAll(false))),
    note,
    el("div", { class: "viewer-body" }, stage, el("div", { class: "side" }, found, legend)));

  function show(next) {
    slide = next;
    choose.value = slide;
    picked = null;
    found.textContent = "Click a polygon for its numbers.";
    note.textContent = SLIDES[slide].note || "";
    canvas.setAttribute("aria-label", `${SLIDES[slide].name} with its concepts; numbers are in the list beside it`);
    image = null;
    layers = CONCEPTS.map(() => null);
    for (const piece of polygonsOf(slide)) {
      layers[piece.row] ??= new Path2D();
      trace(layers[piece.row], piece.rings);
    }
    listConcepts();
    fit();
    const asked = slide;
    const ready = pictureOf(slide).then((loaded) => {
      if (asked !== slide) return;
      image = loaded;
      draw();
    });
    return ready;
  }

  function listConcepts() {
    const rows = CONCEPTS.map((_, row) => row).filter((row) => layers[row]);
    rows.sort((a, b) => CONCEPTS[b].slides.share[slide] - CONCEPTS[a].slides.share[slide]);
    legend.replaceChildren(...rows.map((row) => el("li", {},
      el("label", {},
        el("input", { type: "checkbox", "data-row": row, checked: !hidden.has(row), onchange: (event) => toggle(row, event.target.checked) }),
        swatch(row), name(className(row)), el("span", { class: "figures" }, percent(CONCEPTS[row].slides.share[slide])))),
    ), rows.length ? "" : el("li", { class: "muted" }, "No results on this slide."));
  }

  function toggle(row, on) {
    if (on) hidden.delete(row);
    else hidden.add(row);
    draw();
  }

  function toggleAll(on) {
    CONCEPTS.forEach((_, row) => (on ? hidden.delete(row) : hidden.add(row)));
    listConcepts();
    draw();
  }

  function size() {
    const { width, height } = canvas.getBoundingClientRect();
    return { width: Math.max(1, width), height: Math.max(1, height) };
  }

  function fit() {
    const { width, height } = size();
    const zoom = Math.min(width / SLIDES[slide].width, height / SLIDES[slide].height);
    view = { zoom, x: (width - SLIDES[slide].width * zoom) / 2, y: (height - SLIDES[slide].height * zoom) / 2 };
    fitted = true;
    draw();
  }

  function zoomBy(factor, at = { x: size().width / 2, y: size().height / 2 }) {
    const { width, height } = size();
    const least = 0.5 * Math.min(width / SLIDES[slide].width, height / SLIDES[slide].height);
    const zoom = Math.min(Math.max(view.zoom * factor, least), MOST_ZOOM);
    const ratio = zoom / view.zoom;
    view = { zoom, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
    fitted = false;
    draw();
  }

  function pan(dx, dy) {
    view.x += dx;
    view.y += dy;
    fitted = false;
    draw();
  }

  let asked = false;
  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(paint);
  }

  function paint() {
    asked = false;
    const { width, height } = size();
    const dots = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
    }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#e9e9ee";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(dots * view.zoom, 0, 0, dots * view.zoom, dots * view.x, dots * view.y);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, SLIDES[slide].width, SLIDES[slide].height);
    if (image) context.drawImage(image, 0, 0, SLIDES[slide].width, SLIDES[slide].height);
    layers.forEach((layer, row) => {
      if (!layer || hidden.has(row)) return;
      context.globalAlpha = opacity.value / 100;
      context.fillStyle = css(review[row].colour);
      context.fill(layer, "evenodd");
    });
    context.globalAlpha = 0.7;
    context.lineWidth = 1 / view.zoom;
    context.strokeStyle = "#19191e";
    if (outlines.checked) layers.forEach((layer, row) => layer && !hidden.has(row) && context.stroke(layer));
    context.globalAlpha = 1;
    if (picked) {
      const path = trace(new Path2D(), picked.rings);
      context.lineWidth = 4 / view.zoom;
      context.strokeStyle = "#fff";
      context.stroke(path);
      context.lineWidth = 2 / view.zoom;
      context.strokeStyle = "#000";
      context.stroke(path);
    }
    drawScale(width);
    canvas.dataset.zoom = view.zoom.toFixed(4);
  }

  function drawScale(width) {
    const um = SLIDES[slide].umPerPx;
    scaleBar.hidden = !isNumber(um);
    if (!isNumber(um)) return;
    const most = (0.2 * width * um) / view.zoom;
    const magnitude = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((part) => part * magnitude).find((part) => part <= most) ?? magnitude;
    scaleBar.style.width = `${(length / um) * view.zoom}px`;
    scaleBar.textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
  }

  function pick(x, y) {
    const point = { x: (x - view.x) / view.zoom, y: (y - view.y) / view.zoom };
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    picked = polygonsOf(slide).find((piece) => !hidden.has(piece.row)
      && context.isPointInPath(trace(new Path2D(), piece.rings), point.x, point.y, "evenodd")) || null;
    if (picked) {
      const um = SLIDES[slide].umPerPx;
      found.replaceChildren(swatch(picked.row), name(className(picked.row)), el("br"),
        `concept ${number(picked.row)}, about ${isNumber(um) ? area(areaOf(picked.rings) * um * um) : "? µm²"}`, el("br"),
        `activation ${decimal(picked.activation)}, purity ${decimal(picked.purity)}`);
    } else found.textContent = "Nothing there.";
    draw();
  }

  const step = (by) => show((slide + by + SLIDES.length) % SLIDES.length);

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: 0 };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const dx = event.clientX - drag.x;
    const dy = event.clientY - drag.y;
    drag = { x: event.clientX, y: event.clientY, moved: drag.moved + Math.abs(dx) + Math.abs(dy) };
    if (drag.moved > 3) pan(dx, dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    const box = canvas.getBoundingClientRect();
    if (drag && drag.moved <= 3) pick(event.clientX - box.left, event.clientY - box.top);
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoomBy(1.0015 ** -event.deltaY, { x: event.clientX - box.left, y: event.clientY - box.top });
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  new ResizeObserver(() => (fitted ? fit() : draw())).observe(stage);
  watch((rows) => {
    if (!rows.length) return;
    listConcepts();
    draw();
  });

  viewer.step = step;
  viewer.toggleOverlay = () => toggleAll(hidden.size > 0);
  /** Show a slide, and the surroundings of a place of a concept, in full-resolution px. */
  viewer.visit = (next, centre = null, row = null) => {
    byId("slides").scrollIntoView();
    hidden.delete(row);
    show(next);
    if (!centre) return;
    const [left, top, width] = SLIDES[next].region;
    const scale = width / SLIDES[next].width;
    const { width: wide, height: high } = size();
    const zoom = Math.min(MOST_ZOOM, Math.max(view.zoom, Math.min(4, view.zoom * 5)));
    view = { zoom, x: wide / 2 - ((centre[0] - left) / scale) * zoom, y: high / 2 - ((centre[1] - top) / scale) * zoom };
    fitted = false;
    pick(wide / 2, high / 2);
  };
  /** Show one concept alone, on this slide or where it has its largest share. */
  viewer.only = (row, next = null) => {
    const { share } = CONCEPTS[row].slides;
    CONCEPTS.forEach((_, other) => hidden.add(other));
    for (const each of [row, ...sameClass(row)]) hidden.delete(each);
    byId("slides").scrollIntoView();
    show(next ?? share.indexOf(Math.max(...share)));
  };
  show(0);
}
