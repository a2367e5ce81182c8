// Polygons of a slide, as conceptseg.report.overview.encoded_polygons wrote them.

const decoded = new Map();

/** [{row, activation, purity, rings: [Float32Array of x, y, …]}], coordinates in px of the slide's picture. */
function polygonsOf(slide) {
  if (!decoded.has(slide)) decoded.set(slide, decode(SLIDES[slide].polygons));
  return decoded.get(slide);
}

function decode(base64) {
  const text = atob(base64);
  let at = 0;
  function next() {
    let value = 0;
    let factor = 1;
    for (;;) {
      const byte = text.charCodeAt(at++);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
  }
  const step = () => {
    const value = next();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  };
  const thousandths = () => {
    const value = next();
    return value ? (value - 1) / 1000 : null;
  };
  const pieces = [];
  while (at < text.length) {
    const piece = { row: next(), activation: thousandths(), purity: thousandths(), rings: [] };
    for (let rings = next(); rings > 0; rings--) {
      const ring = new Float32Array(2 * next());
      let x = 0;
      let y = 0;
      for (let i = 0; i < ring.length; i += 2) {
        ring[i] = (x += step()) / DATA.stepsPerPx;
        ring[i + 1] = (y += step()) / DATA.stepsPerPx;
      }
      piece.rings.push(ring);
    }
    pieces.push(piece);
  }
  return pieces;
}

function trace(path, rings) {
  for (const ring of rings) {
    path.moveTo(ring[0], ring[1]);
    for (let i = 2; i < ring.length; i += 2) path.lineTo(ring[i], ring[i + 1]);
    path.closePath();
  }
  return path;
}

/** Area inside the rings in px² of the picture. */
function areaOf(rings) {
  let total = 0;
  let largest = 0;
  for (const ring of rings) {
    let twice = 0;
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) twice += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
    total += Math.abs(twice) / 2;
    largest = Math.max(largest, Math.abs(twice) / 2);
  }
  return 2 * largest - total; // the holes lie inside the largest ring
}

/** The picture of a slide once it is decoded; null without one. */
const pictures = new Map();
function pictureOf(slide) {
  if (!pictures.has(slide)) {
    const image = new Image();
    image.src = SLIDES[slide].picture || "";
    pictures.set(slide, SLIDES[slide].picture ? image.decode().then(() => image, () => null) : Promise.resolve(null));
  }
  return pictures.get(slide);
}
