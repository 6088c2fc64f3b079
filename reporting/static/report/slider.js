// The bar with the slider, the class it moves, and the way back to the rule.
function showBar() {
  const start = data.of[state.channel];
  const place = state.byte === RULE ? start.byte : state.byte;
  const words = state.byte === RULE ? `at the decision rule: ${start.words}` : `threshold ${probability(place)} (byte ${place} of 255), not the decision rule`;
  for (const slider of document.querySelectorAll("#byte, #zoombyte")) {
    slider.value = place;
    slider.setAttribute("aria-valuetext", words);
  }
  byId("mark").style.setProperty("--at", start.byte);
  byId("position").textContent = words;
  byId("back").disabled = state.byte === RULE;
}

if (data.of.length) {
  byId("bar").hidden = false;
  for (const slider of document.querySelectorAll("#byte, #zoombyte")) {
    slider.addEventListener("input", () => move(Number(slider.value)));
  }
  byId("channel")?.addEventListener("change", (event) => move(RULE, Number(event.target.value)));
  byId("back").addEventListener("click", () => move(RULE));
  addEventListener("beforeprint", () => move(RULE));
  listeners.push(showBar);
  if (byId("channel")) byId("channel").value = "0"; // a browser may remember another one
  showBar();
}
for (const ask of document.querySelectorAll(".ask")) ask.addEventListener("click", () => byId("keys").showModal());
byId("known").addEventListener("click", () => byId("keys").close());
addEventListener("keydown", (event) => {
  if (event.target.matches("select, input:not([type=range])") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?" && !byId("keys").open) byId("keys").showModal();
  if (event.key === "r" && data.of.length) move(RULE);
});
