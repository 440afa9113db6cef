// The one socket to the server: it comes back by itself when it is lost, and says where it stands.

const WAITS_MS = [500, 1000, 2000, 4000, 8000];
const SILENCE_MS = 3000;
const FINAL_CODES = [1003, 1007, 1008, 1009];

export class Link {
  /** `onEvent(message)`, `onPicture(buffer)`, `onState(state, text)`; state: connecting, open, waiting, closed. */
  constructor({ onEvent, onPicture, onState }) {
    Object.assign(this, { onEvent, onPicture, onState });
    this.socket = null;
    this.failures = 0;
    this.timer = null;
    this.reason = "";
    this.final = false;
    this.heard = performance.now();
    this.expecting = false; // while playing, something must come
    setInterval(() => this.#watch(), 1000);
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.final = false;
    this.reason = "";
    this.#forget();
    this.onState("connecting", "Connecting");
    const place = new URL("/ws", location.href);
    place.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const token = new URLSearchParams(location.search).get("token");
    if (token !== null) place.searchParams.set("token", token);
    const socket = new WebSocket(place);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send({ do: "hello" });
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = (event) => this.#lost(event);
    this.socket = socket;
  }

  /** Whether it was sent: nothing is kept for later, because what was pressed then is not meant now. */
  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  #hear(data) {
    this.heard = performance.now();
    if (typeof data !== "string") return this.onPicture(data);
    const message = JSON.parse(data);
    if (message.on === "ready") {
      this.failures = 0;
      this.onState("open", "Connected");
    } else if (message.on === "bye") {
      this.reason = String(message.reason ?? "");
      this.final = message.final === true;
    }
    return this.onEvent(message);
  }

  #forget() {
    if (this.socket === null) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  #lost(event) {
    this.socket = null;
    const reason = this.reason || event.reason;
    if (this.final || FINAL_CODES.includes(event.code)) {
      this.onState("closed", reason || "The server closed this session.");
      return;
    }
    const wait = WAITS_MS[Math.min(this.failures, WAITS_MS.length - 1)];
    this.failures += 1;
    this.timer = setTimeout(() => this.connect(), wait);
    const why = reason || "The connection to the server is lost.";
    this.onState("waiting", `${why} Trying again in ${wait / 1000} s.`);
  }

  #watch() {
    if (this.socket?.readyState !== WebSocket.OPEN || !this.expecting || document.hidden) return;
    const silent = performance.now() - this.heard;
    if (silent > SILENCE_MS) this.onState("silent", `No answer for ${Math.round(silent / 1000)} s`);
  }
}
