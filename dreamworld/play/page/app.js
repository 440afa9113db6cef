// The page of `dreamworld play`: joins the socket, the controls, the pictures and the readouts.

import { Controls, keyOf } from "./controls.js";
import { byId, isNumber, keyName, number, pills, throttle, write } from "./dom.js";
import { History } from "./history.js";
import { Latency } from "./latency.js";
import { Link } from "./link.js";
import { Edits, fillHelp, Keep, notice, Segments } from "./panels.js";
import { Pictures } from "./pictures.js";
import { Colours } from "./plots.js";
import { Readouts } from "./readouts.js";
import { Timeline } from "./timeline.js";

const PLAYERS = { human: "You", agent: "Agent", random: "Random", planner: "Planner", recording: "Recorded" };

let ready = null;
let state = { playing: false, player: "human", speed: 10, temperature: 1, branches: [], recording: false, recordings: [] };
let met = false; // whether there was a session before
let last = null; // the newest painted step

const colours = new Colours();
const history = new History();
const latency = new Latency();
const readouts = new Readouts(history, colours);
const link = new Link({ onEvent: hear, onPicture: (buffer) => pictures.take(buffer), onState: connection });
const send = (message) => link.send(message);
const pictures = new Pictures({ onPainted: painted, colours });
const controls = new Controls(byId("controls"), {
  onChange: (value, id) => send({ do: "action", value, id }),
  onPress: pressed,
});
const timeline = new Timeline(history, colours, {
  onRewind: (t) => send({ do: "rewind", to: t }),
  onBranch: (id) => send({ do: "branch", id }),
  onLook: (t) => {
    readouts.look(t);
    if (t !== null) pictures.preview(history.at(t)?.pictured);
  },
});
const segments = new Segments(send);
const edits = new Edits(send);
const keep = new Keep(send);

// ---- what the server says

function hear(message) {
  const heard = { ready: begin, step: stepped, state: stated, segments: (m) => segments.show(m.items), notice: (m) => notice(m.text, m.kind) };
  heard[message.on]?.(message);
}

function begin(message) {
  ready = message;
  last = null;
  history.clear();
  latency.forget();
  document.title = `${ready.title} · dreamworld play`;
  write(byId("title"), ready.task);
  const parts = [ready.agent, isNumber(ready.step) ? `step ${ready.step.toLocaleString("en")}` : null];
  write(byId("about"), parts.filter(Boolean).join(" · "));
  const real = ready.lanes.includes("real");
  const dream = ready.lanes.includes("dream");
  document.body.classList.toggle("alone", !dream);
  document.body.classList.toggle("dream-only", dream && !real);
  byId("lane-real").hidden = !real;
  byId("lane-dream").hidden = !dream;
  byId("lane-difference").hidden = !(real && dream);
  byId("probed").hidden = !ready.probed;
  byId("world").hidden = !dream;
  byId("actions").hidden = ready.controls.length === 0 && ready.players.length < 2;
  byId("speed").max = ready.max_speed ?? 60;
  byId("back").disabled = ready.rewind !== true;
  byId("hold").checked = controls.sticky = false;
  pictures.configure(ready);
  byId("views").hidden = ready.images.length < 2;
  pills(byId("views"), "view", ready.images.map((key, index) => [String(index), key]), "0", (view) => {
    readouts.view = Number(view);
    pictures.choose(Number(view));
    readouts.draw();
  });
  readouts.configure(ready);
  timeline.allow(ready.rewind);
  controls.build(ready.controls);
  edits.configure(ready.edits ?? []);
  segments.configure(ready.segments !== false && dream);
  keep.configure(ready);
  nameShortcuts();
  document.body.classList.remove("waiting");
  if (met) notice("Connected again. The server began a new session.");
  met = true;
  controls.resend();
}

function stepped(step) {
  history.add(step);
  controls.stepped(step.action_id);
  if (step.player !== "human" && step.action) controls.show(step.action);
  pictures.begin(step);
}

function painted(step, images, now) {
  send({ do: "ack", frame: step.n });
  latency.painted(step.action_id, now);
  history.keepPictures(step, images);
  last = step;
  readouts.show(step);
  timeline.draw();
  status();
}

const status = throttle(() => {
  if (last !== null) edits.follow(last);
  const found = latency.summary();
  write(byId("latency"), found === null ? "press a key" : `${found.p50.toFixed(0)} ms, p95 ${found.p95.toFixed(0)} ms`);
  write(byId("fps"), `${latency.fps().toFixed(0)} per s`);
  write(byId("step-ms"), isNumber(last?.step_ms) ? `${number(last.step_ms)} ms` : "–");
  write(byId("dropped"), (last?.dropped ?? 0) + pictures.skipped);
}, 250);

function stated(message) {
  state = { ...state, ...message };
  write(byId("play-label"), state.playing ? "Pause" : "Play");
  byId("play").title = `${state.playing ? "Pause" : "Play"} (${shown("play")})`;
  byId("play-icon").setAttribute("href", state.playing ? "#i-pause" : "#i-play");
  if (!byId("speed").matches(":active")) byId("speed").value = state.speed;
  write(byId("speed-value"), `${Math.round(state.speed)} per s`);
  if (!byId("temperature").matches(":active")) byId("temperature").value = state.temperature;
  write(byId("temperature-value"), Number(state.temperature).toFixed(1));
  showPlayers();
  timeline.setBranches(state.branches ?? []);
  keep.show(state);
  link.expecting = state.playing;
  if (!state.playing) latency.forget();
  if (state.player === "human") controls.show(controls.values());
}

function showPlayers() {
  const names = (state.players ?? ready?.players ?? []).map((name) => [name, PLAYERS[name] ?? name]);
  const box = byId("players");
  const asked = document.activeElement?.closest?.("#players") !== null;
  if (box.querySelector("input:checked")?.value === state.player && box.children.length === names.length) return;
  pills(box, "player", names, state.player, (value) => send({ do: "player", value }));
  if (asked) box.querySelector("input:checked")?.focus();
}

function connection(where, text) {
  byId("connection").dataset.state = where;
  write(byId("connection-text"), { connecting: "Connecting", open: "Connected", waiting: "Disconnected", closed: "Closed", silent: text }[where]);
  const lost = where === "waiting" || where === "closed";
  if (lost || where === "open") byId("banner").hidden = !lost;
  if (lost) {
    document.body.classList.add("waiting");
    write(byId("banner-text"), text);
    write(byId("banner-button"), where === "closed" ? "Connect again" : "Try now");
    link.expecting = false;
    latency.forget();
  }
}

// ---- what the person does

/** A press of an action: takes the play over from the agent; when paused it is one step, of a slider where it is let go. */
function pressed(id, at, done) {
  if (id !== null) latency.pressed(id, at);
  if (ready === null) return;
  if (state.player !== "human") {
    if (send({ do: "player", value: "human" })) state.player = "human";
    notice(`You play now. ${shown("player")} gives it back.`);
  } else if (!state.playing && done) send({ do: "step" });
}

/** The page believes what it asks for until the server says otherwise: a key right after Play is no single step. */
function play(on) {
  if (send({ do: on ? "play" : "pause" })) state.playing = on;
}

function nextPlayer() {
  const players = state.players ?? ready.players;
  send({ do: "player", value: players[(players.indexOf(state.player) + 1) % players.length] });
}

function back() {
  if (ready?.rewind !== true || history.cursor === 0) return;
  state.playing = false;
  send({ do: "rewind", to: history.cursor - 1 });
}

const SHORTCUTS = {
  play: { key: " ", text: "Play or pause", run: () => play(!state.playing) },
  step: { key: ".", text: "One step", run: () => (state.playing = false, send({ do: "step" })) },
  back: { key: ",", text: "Back one step", run: back },
  reset: { key: "r", text: "New episode", run: () => send({ do: "reset" }) },
  anchor: { key: "a", text: "Re-anchor: let the dream see reality", run: () => send({ do: "anchor" }) },
  player: { key: "p", text: "Next player", run: nextPlayer },
  record: { key: "c", text: "Record, or stop recording", run: () => byId("record").click() },
  help: { key: "?", text: "This help", run: () => byId("help").showModal() },
};

/** A shortcut as it is reached here: with Shift where a control of the environment has its key. */
function shown(name) {
  const { key } = SHORTCUTS[name];
  return controls.owns(key) ? `Shift ${keyName(key)}` : keyName(key);
}

function nameShortcuts() {
  fillHelp(Object.entries(SHORTCUTS).map(([name, { text }]) => ({ shown: shown(name), text })), ready.controls);
  for (const hint of document.querySelectorAll("kbd[data-shortcut]")) write(hint, shown(hint.dataset.shortcut));
  for (const [name, title] of [["reset", "New episode"], ["back", "Back one step"], ["step", "One step"], ["record", "Record"], ["anchor", "Re-anchor"]]) {
    byId(name).title = `${title} (${shown(name)})`;
  }
}

for (const name of ["play", "step", "back", "reset", "anchor"]) byId(name).addEventListener("click", () => SHORTCUTS[name].run());
byId("help-open").addEventListener("click", SHORTCUTS.help.run);
byId("help-close").addEventListener("click", () => byId("help").close());
byId("help").addEventListener("click", (event) => event.target === byId("help") && byId("help").close());
byId("banner-button").addEventListener("click", () => link.connect());
byId("hold").addEventListener("change", (event) => {
  controls.sticky = event.target.checked;
  controls.releaseAll();
});
const sendSpeed = throttle((value) => send({ do: "speed", value }), 100);
byId("speed").addEventListener("input", (event) => sendSpeed(Number(event.target.value)));
const sendTemperature = throttle((value) => send({ do: "temperature", value }), 100);
byId("temperature").addEventListener("input", (event) => sendTemperature(Number(event.target.value)));

/** Whether a focused element needs this key for itself. */
function keepsKey(target, key) {
  if (target.matches('select, textarea, input[type="number"], input[type="text"]')) return true;
  if (target.matches('input[type="range"], input[type="radio"]')) return /^(Arrow|Page|Home|End)/.test(key) || key === " ";
  return target.matches('button, a, input[type="checkbox"]') && (key === " " || key === "Enter");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open || event.isComposing) return;
  if (event.key === "Escape") document.activeElement?.blur();
  if (ready === null || keepsKey(event.target, event.key)) return;
  const key = keyOf(event);
  const shortcut = Object.values(SHORTCUTS).find((each) => each.key === key);
  const taken = controls.owns(key);
  if (shortcut && (!taken || event.shiftKey)) {
    event.preventDefault();
    if (!event.repeat || shortcut === SHORTCUTS.step || shortcut === SHORTCUTS.back) shortcut.run();
  } else if (controls.keyDown(event)) event.preventDefault();
});
document.addEventListener("keyup", (event) => controls.keyUp(event));

// What a pointer has clicked gives the keys back to the actions; what the keyboard has reached keeps them.
document.addEventListener("pointerup", () => {
  setTimeout(() => document.activeElement?.matches?.('button, input:not([type="number"])') && document.activeElement.blur());
});
document.addEventListener("change", (event) => event.target.matches('input[type="radio"]') && !event.target.matches(":focus-visible") && event.target.blur());

window.addEventListener("blur", () => controls.releaseAll());
window.addEventListener("pagehide", () => controls.releaseAll());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return readouts.draw();
  controls.releaseAll();
  if (state.playing && state.player === "human" && send({ do: "pause" })) notice("Paused, because the page was out of sight.");
  return undefined;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  pictures.again();
  timeline.draw();
});

link.connect();
