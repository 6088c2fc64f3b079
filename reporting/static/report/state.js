// The state of the page: the selected class and the threshold. Listeners show it.
const data = JSON.parse(document.getElementById("data").textContent);
const RULE = 256; // the position of the decision rule, after the 256 thresholds
const UNDEFINED = 65535;
const state = { channel: 0, byte: RULE };
const listeners = [];
document.documentElement.classList.add("script");

const byId = (id) => document.getElementById(id);
const unpack = (text, Numbers) => new Numbers(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

/** A series over the 257 positions; a score that never changes is a single number. */
const series = (packed) => (typeof packed === "string" ? unpack(packed, Uint16Array) : null);
const decimals = (number) => (number === UNDEFINED ? "–" : (number / 10000).toFixed(4));
const silent = data.table.silent.map((text) => unpack(text, Uint16Array)); // class, image: the first threshold at which the class is not predicted
const flags = data.table.flags.map((text) => unpack(text, Uint8Array)); // 1: the truth has the class, 2: predicted at the rule

/** The threshold of a class: only the selected class can leave its decision rule. */
const placeOf = (channel) => (channel === state.channel ? state.byte : RULE);

function predicted(row, channel) {
  const place = placeOf(channel);
  return place === RULE ? (flags[channel][row] & 2) > 0 : place < silent[channel][row];
}

function outcome(row, channel) {
  const right = ((flags[channel][row] & 1) > 0) === predicted(row, channel);
  return `${right ? "true" : "false"} ${predicted(row, channel) ? "positive" : "negative"}`;
}

/** The probability of a byte, with enough digits to differ from 0 and 1. */
function probability(byte) {
  const odds = Math.exp(byte / 8 - 16);
  if (odds > 9999) return `1 − ${(1 / (1 + odds)).toExponential(1)}`;
  return odds < 1e-4 ? (odds / (1 + odds)).toExponential(1) : (odds / (1 + odds)).toFixed(4);
}

/** Sets the threshold of the selected class, or selects another class at its decision rule. */
function move(byte, channel = state.channel) {
  const start = data.of[channel];
  state.byte = channel !== state.channel || (start.plain && byte === start.byte) ? RULE : byte;
  state.channel = channel;
  document.documentElement.classList.toggle("moved", state.byte !== RULE);
  listeners.forEach((listener) => listener());
}
