// One case enlarged in a dialog, with the threshold, its layers and the buttons for the next case.
const zoom = byId("zoom");
const zoomed = { number: 0, factor: 1 };
const PAN = 60; // pixels that an arrow moves an enlarged picture
const LARGEST = 2400; // pixels of the drawing's longer side

function showZoom() {
  if (!zoom?.open) return;
  const picture = figures[zoomed.number].querySelector("img");
  const [stage, canvas] = [byId("stage"), zoom.querySelector("canvas")];
  const [height, width] = data.cases[zoomed.number].size ?? [picture.naturalHeight, picture.naturalWidth];
  const fit = Math.min(stage.clientWidth / width, stage.clientHeight / height) * zoomed.factor;
  const sharp = Math.max(1, Math.ceil(Math.min(fit * devicePixelRatio, LARGEST / Math.max(height, width))));
  Object.assign(canvas, { width: width * sharp, height: height * sharp });
  Object.assign(canvas.style, { width: `${Math.floor(width * fit)}px`, height: `${Math.floor(height * fit)}px` });
  canvas.setAttribute("aria-label", `${data.cases[zoomed.number].id}, enlarged`);
  byId("name").textContent = data.cases[zoomed.number].id;
  const place = state.byte === RULE ? "at the decision rule" : `threshold ${probability(state.byte)}`;
  byId("about").textContent = words(zoomed.number) + (data.of.length ? ` · ${place}` : "");
  for (const button of zoom.querySelectorAll("[data-layer]")) button.setAttribute("aria-pressed", shownLayers[button.dataset.layer]);
  draw(canvas, picture, zoomed.number);
}

function openCase(number) {
  Object.assign(zoomed, { number, factor: 1 });
  if (!zoom.open) zoom.showModal();
  showZoom();
}

/** The neighbour among the cases that are shown; or the first case if this one is not shown. */
function step(by) {
  const shown = shownCases();
  const place = shown.indexOf(zoomed.number);
  openCase(shown[place < 0 ? 0 : (place + by + shown.length) % shown.length]);
}

/** Larger or smaller; the center stays where it is. */
function enlarge(by) {
  const [stage, canvas] = [byId("stage"), zoom.querySelector("canvas")];
  const box = stage.getBoundingClientRect(), before = canvas.getBoundingClientRect();
  const middle = [box.left + box.width / 2, box.top + box.height / 2];
  zoomed.factor = Math.min(8, Math.max(1, zoomed.factor * by));
  showZoom();
  const after = canvas.getBoundingClientRect();
  const x = after.left + (after.width * (middle[0] - before.left)) / before.width;
  const y = after.top + (after.height * (middle[1] - before.top)) / before.height;
  stage.scrollBy(x - middle[0], y - middle[1]);
}

/** Arrows move an enlarged image. */
function pan(x, y, otherwise) {
  if (zoomed.factor > 1) byId("stage").scrollBy(x * PAN, y * PAN);
  else otherwise();
}

function toggle(layer) {
  if (!data.cases[zoomed.number].maps) return;
  shownLayers[layer] = !shownLayers[layer];
  showZoom();
  near.forEach(redraw);
}

function nudge(by) {
  if (!data.of.length) return;
  const place = state.byte === RULE ? data.of[state.channel].byte : state.byte;
  move(Math.min(255, Math.max(0, place + by)));
}

const KEYS = {
  ArrowLeft: () => pan(-1, 0, () => step(-1)),
  ArrowRight: () => pan(1, 0, () => step(1)),
  ArrowUp: () => pan(0, -1, () => nudge(1)),
  ArrowDown: () => pan(0, 1, () => nudge(-1)),
  "+": () => enlarge(1.25),
  "=": () => enlarge(1.25),
  "-": () => enlarge(0.8),
  t: () => toggle("truth"),
  p: () => toggle("prediction"),
  m: () => data.of.length && toggle("map"), // margins of exclusive classes are no probabilities
};

if (zoom) {
  listeners.push(showZoom);
  addEventListener("resize", showZoom);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("larger").addEventListener("click", () => enlarge(1.25));
  byId("smaller").addEventListener("click", () => enlarge(0.8));
  byId("close").addEventListener("click", () => zoom.close());
  for (const button of zoom.querySelectorAll("[data-layer]")) button.addEventListener("click", () => toggle(button.dataset.layer));
  byId("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    enlarge(event.deltaY < 0 ? 1.15 : 1 / 1.15);
  }, { passive: false });
  byId("stage").addEventListener("pointermove", (event) => {
    if (event.buttons === 1 && event.pointerType === "mouse") byId("stage").scrollBy(-event.movementX, -event.movementY);
  });
  zoom.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target.type === "range" && event.key.startsWith("Arrow"))) return;
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}
