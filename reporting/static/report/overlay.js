// Draws a case: its image, the true outline and the prediction at the current threshold.
const TRUTH = "#3cc846";
const PREDICTION = "#fa8232";
const kept = new Map(); // case and class -> a promise of its planes
const shownLayers = { truth: true, prediction: true, map: false };

async function inflate(text) {
  const stream = new Blob([unpack(text, Uint8Array)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The byte map and the truth of one class, as `encode_mask` in encoding.py packed them. */
async function readPlanes({ maps, size: [height, width] }, channel) {
  const bytes = await inflate(maps[channel]);
  const [map, bits] = [bytes.subarray(0, height * width), bytes.subarray(height * width)];
  for (let i = 0; i < map.length; i++) if (i % width) map[i] += map[i - 1];
  return { map, truth: Uint8Array.from(map, (_, i) => (bits[i >> 3] >> (7 - (i % 8))) & 1) };
}

function planes(number, channel) {
  const key = `${number} ${channel}`;
  if (!kept.has(key)) kept.set(key, readPlanes(data.cases[number], channel));
  return kept.get(key);
}

/** The first byte of predicted pixels; 256 if the class is not predicted in the image. */
function predictedFrom({ row, first_byte }, channel) {
  const place = placeOf(channel);
  if (place === RULE) return first_byte[channel];
  return place < silent[channel][row] ? place : RULE;
}

function path(context, inside, [height, width], scale) {
  context.beginPath();
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!inside(i)) continue;
      const [left, top, right, bottom] = [x * scale, y * scale, (x + 1) * scale, (y + 1) * scale];
      if (!x || !inside(i - 1)) context.moveTo(left, top), context.lineTo(left, bottom);
      if (x + 1 === width || !inside(i + 1)) context.moveTo(right, top), context.lineTo(right, bottom);
      if (!y || !inside(i - width)) context.moveTo(left, top), context.lineTo(right, top);
      if (y + 1 === height || !inside(i + width)) context.moveTo(left, bottom), context.lineTo(right, bottom);
    }
  }
}

/** Fills pixels; `color` gives red, green, blue and opacity of a pixel, or nothing. */
function fill(context, color, [height, width]) {
  const layer = new OffscreenCanvas(width, height);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    const found = color(i);
    if (found) pixels.data.set(found, 4 * i);
  }
  layer.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0, context.canvas.width, context.canvas.height);
  context.imageSmoothingEnabled = true;
}

const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function stroke(context, inside, size, color, width) {
  const scale = context.canvas.width / size[1];
  context.lineCap = "round";
  path(context, inside, size, scale);
  for (const [style, thick] of [["#000a", width + 1.6], [color, width]]) {
    Object.assign(context, { strokeStyle: style, lineWidth: thick });
    context.stroke();
  }
}

function drawClass(context, { map, truth }, from, size, colors) {
  if (shownLayers.map) fill(context, (i) => [255, 2 * Math.max(0, map[i] - 128), 0, 235 / (1 + Math.exp(16 - map[i] / 8))], size);
  if (shownLayers.prediction && from < RULE) {
    const tint = [...rgb(colors.prediction), colors.opacity];
    fill(context, (i) => map[i] >= from && tint, size);
    stroke(context, (i) => map[i] >= from, size, colors.prediction, 1);
  }
  if (shownLayers.truth) stroke(context, (i) => truth[i] > 0, size, colors.truth, 1.6);
}

/** Draws case `number` on a canvas as it is sized; the classes that have a map here, or only the selected class. */
async function draw(canvas, picture, number) {
  const found = data.cases[number];
  const channels = Object.keys(found.maps ?? {}).map(Number).filter((c) => !byId("alone")?.checked || c === state.channel);
  const turn = (canvas.turn = (canvas.turn ?? 0) + 1);
  const all = await Promise.all([picture.decode(), ...channels.map((c) => planes(number, c))]);
  if (canvas.turn !== turn) return; // a later call draws this canvas
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  channels.forEach((c, k) => {
    const own = data.colors?.[c];
    const colors = { truth: own ?? TRUTH, prediction: own ?? PREDICTION, opacity: own ? 105 : 75 };
    drawClass(context, all[k + 1], predictedFrom(found, c), found.size, colors);
  });
  canvas.dataset.at = state.byte;
}
