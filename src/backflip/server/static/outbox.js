// Answers on their way to the server. Each is kept in the browser until the server has acknowledged
// it; its key makes a second arrival harmless. One tab sends at a time.

const FIRST_WAIT = 1000, LONGEST_WAIT = 30000;

export class Outbox {
  /** name: of this person in this project; send(entry): a promise of the acknowledgement. */
  constructor(name, send, changed) {
    this.name = `backflip:outbox:${name}`;
    this.send = send;
    this.changed = changed;
    this.waiters = new Map();
    this.wait = FIRST_WAIT;
    this.busy = false;
    this.memory = null; // used where the browser forbids storage
    addEventListener("online", () => this.soon(0));
    addEventListener("storage", (event) => event.key === this.name && this.changed(this.size, "waiting"));
  }

  read() {
    if (this.memory) return this.memory;
    try {
      return JSON.parse(localStorage.getItem(this.name) || "[]");
    } catch {
      return [];
    }
  }

  write(entries) {
    try {
      localStorage.setItem(this.name, JSON.stringify(entries));
    } catch {
      this.memory = entries;
    }
  }

  get size() {
    return this.read().length;
  }

  /** Whether an answer to this item is still on its way. */
  pending(item) {
    return this.read().some((entry) => entry.body.item === item);
  }

  /** Keep and send; the promise ends with the server's answer, however long that takes. */
  add(path, body) {
    const key = newKey();
    this.write([...this.read(), { path, key, body: { ...body, client_key: key } }]);
    const done = new Promise((resolve, reject) => this.waiters.set(key, { resolve, reject }));
    this.changed(this.size, "sending");
    this.soon(0);
    return done;
  }

  soon(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), wait);
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    try {
      if (navigator.locks) await navigator.locks.request(this.name, () => this.drain());
      else await this.drain();
      this.wait = FIRST_WAIT;
      this.changed(this.size, "saved");
    } catch (problem) {
      this.changed(this.size, problem.state || "waiting", problem);
      if (problem.state !== "signed-out") this.soon(this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    } finally {
      this.busy = false;
      if (this.size && this.wait === FIRST_WAIT) this.soon(0);
    }
  }

  async drain() {
    for (let entries = this.read(); entries.length; entries = this.read()) {
      const entry = entries[0];
      let answer = null, refusal = null;
      try {
        answer = await this.send(entry);
      } catch (problem) {
        if (!problem.final) throw problem; // no connection, too fast, signed out: keep it
        refusal = problem;
      }
      this.write(this.read().filter((other) => other.key !== entry.key));
      const waiter = this.waiters.get(entry.key);
      this.waiters.delete(entry.key);
      if (refusal) waiter ? waiter.reject(refusal) : this.changed(this.size, "refused", refusal);
      else waiter?.resolve(answer);
    }
  }
}

export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // an address without TLS has no randomUUID
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A request to the server: JSON in, JSON out. Problems say whether trying again can help. */
export async function call(path, body, method = body ? "POST" : "GET") {
  const headers = { Accept: "application/json", "X-CSRF-Token": document.documentElement.dataset.csrf };
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw Object.assign(new Error("No connection"), { state: "waiting" });
  }
  const said = await response.json().catch(() => null);
  if (said !== null && response.ok) return said;
  if (typeof said?.detail !== "string") throw intercepted(response);
  const problem = Object.assign(new Error(said.detail), { status: response.status });
  if (response.status === 401 || (response.status === 403 && said.code === "csrf")) problem.state = "signed-out";
  else if (response.status === 429 || response.status >= 500) problem.state = "waiting";
  else problem.final = true;
  throw problem;
}

/** Somebody between us and the server has answered: a network that wants a sign-in, a proxy. What was
 *  sent has not arrived, and nobody of ours refused it. */
function intercepted(response) {
  const door = response.redirected || [401, 403].includes(response.status);
  return Object.assign(new Error("No connection"), { status: response.status, state: door ? "signed-out" : "waiting" });
}
