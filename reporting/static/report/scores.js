// The numbers that a threshold decides: scores, their intervals, confusion.
const cells = [...document.querySelectorAll("[data-s]")].map((element) => {
  const { s, c, part } = element.dataset;
  return { element, score: data.scores.indexOf(s), fixed: data.fixed.includes(s), shared: data.shared.includes(s), c, part, own: element.textContent };
});
const counted = [...document.querySelectorAll("[data-cell]")].map((element) => ({ element, ...element.dataset, own: element.textContent }));
const unpacked = data.of.map((of) => ({ values: of.values.map(series), mean: of.mean && of.mean.map(series) }));

function quadrant(counts, cell, place) {
  const [tp, fp] = [counts.tp[place], counts.fp[place]];
  return { tp, fp, fn: counts.positive - tp, tn: counts.negative - fp }[cell];
}

function showNumbers() {
  const { channel, byte } = state;
  for (const { element, score, fixed, shared, c, part, own } of cells) {
    const found = unpacked[channel][c === "mean" ? "mean" : "values"][score];
    const moved = found && byte !== RULE && !fixed && (c === "mean" || shared || Number(c) === channel);
    if (!moved) element.textContent = own;
    else if (part === "interval") element.textContent = "–";
    else element.textContent = decimals(found[byte]);
    element.classList.toggle("elsewhere", Boolean(moved));
  }
  for (const { element, of, c, cell, own } of counted) {
    const moved = byte !== RULE && Number(c) === channel;
    element.textContent = moved ? quadrant(data.of[channel][of], cell, byte).toLocaleString("en-US") : own;
    element.classList.toggle("elsewhere", moved);
  }
}

listeners.push(showNumbers);
