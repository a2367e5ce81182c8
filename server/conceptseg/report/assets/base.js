// What all parts of the page share. Text from users only ever becomes text: no part sets HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CONCEPTS = DATA.concepts;
const SLIDES = DATA.slides;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

/** An element with properties (or attributes, or on… handlers) and children; null children are left out. */
function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (share) => (!isNumber(share) ? "–" : share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const decimal = (value, digits = 2) => (isNumber(value) ? value.toFixed(digits) : "–");
const count = (value) => value.toLocaleString("en");

function area(um2) {
  if (!isNumber(um2)) return "–";
  return um2 >= 1e4 ? `${(um2 / 1e6).toFixed(um2 >= 1e7 ? 1 : um2 >= 1e5 ? 2 : 3)} mm²` : `${Math.round(um2)} µm²`;
}

const css = (colour) => `rgb(${colour.join(" ")})`;
const hex = (colour) => "#" + colour.map((channel) => channel.toString(16).padStart(2, "0")).join("");
const fromHex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));

/** A name in its own direction of writing. */
const name = (text) => el("bdi", {}, text);

function download(fileName, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: fileName });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}
