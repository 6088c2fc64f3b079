// The cases: their order, which are shown, their live overlays and the text below them.
const figures = [...document.querySelectorAll("figure[data-case]")];
const view = { order: 0, all: false };
const near = new Set(); // figures in or about to come into view

/** The cases that are shown, in their order. */
function shownCases() {
  const { cases, counted } = data.orders[view.order];
  return view.all ? cases : cases.slice(0, counted);
}

function words(number) {
  const [own, row, channel] = [figures[number].dataset.own, data.cases[number].row, state.channel];
  const name = data.classes.length > 1 ? `${data.classes[channel]}: ` : "";
  if (data.kind === "label") return data.of.length ? `${own} · ${name}${outcome(row, channel)}` : own;
  if (state.byte === RULE) return own;
  const dice = data.cases[number].dice[channel];
  if (typeof dice === "string") return `${name}Dice ${decimals(series(dice)[state.byte])}`;
  if (typeof dice === "number") return `${name}Dice ${dice.toFixed(4)}`;
  return `${name}${predicted(row, channel) ? "false alarm; its map is not stored" : "not in truth, not predicted"}`;
}

function redraw(figure) {
  const canvas = figure.querySelector("canvas");
  const picture = figure.querySelector("img");
  if (!canvas) return;
  const [height, width] = data.cases[figure.dataset.case].size;
  const large = Math.max(1, Math.ceil((picture.clientWidth * devicePixelRatio) / width));
  Object.assign(canvas, { width: width * large, height: height * large });
  draw(canvas, picture, Number(figure.dataset.case));
}

let waiting = 0;
function showCases() {
  figures.forEach((figure, number) => (figure.querySelector(".moving").textContent = words(number)));
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => near.forEach(redraw));
}

function arrange() {
  const shown = shownCases();
  const rest = data.orders[view.order].cases.length - data.orders[view.order].counted;
  for (const figure of figures) figure.hidden = !shown.includes(Number(figure.dataset.case));
  byId("grid").append(...data.orders[view.order].cases.map((number) => figures[number]));
  for (const [place, button] of [...byId("orders").children].entries()) button.setAttribute("aria-pressed", place === view.order);
  byId("more").textContent = view.all ? "fewer" : `${rest} more`;
  byId("more").setAttribute("aria-expanded", view.all);
  byId("more").hidden = rest === 0;
}

function start() {
  const watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      near[isIntersecting ? "add" : "delete"](target);
      if (isIntersecting) redraw(target);
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) {
    figure.dataset.own = figure.querySelector(".moving").textContent;
    figure.querySelector(".open").addEventListener("click", () => openCase(Number(figure.dataset.case)));
    if (!data.cases[figure.dataset.case].maps) continue;
    const [height, width] = data.cases[figure.dataset.case].size;
    const canvas = Object.assign(document.createElement("canvas"), { className: "live", width, height });
    figure.querySelector(".case").append(canvas);
    watch.observe(figure);
  }
  data.orders.forEach(({ name, counted }, order) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name, disabled: !counted });
    button.addEventListener("click", () => (Object.assign(view, { order, all: false }), arrange()));
    byId("orders").append(button);
  });
  byId("more").addEventListener("click", () => ((view.all = !view.all), arrange()));
  byId("alone")?.addEventListener("change", () => listeners.forEach((listener) => listener()));
  listeners.push(showCases);
  arrange();
  showCases();
}

if (figures.length) start();
