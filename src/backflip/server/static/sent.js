// What was sent, by item, while this tab is open: after an undo or a refusal the item begins with it.

const MOST = 40, LETTERS = 400000; // items, and letters of them all

export class Sent {
  constructor(name) {
    this.name = `backflip:sent:${name}`;
    this.entries = this.read();
  }

  read() {
    try {
      return JSON.parse(sessionStorage.getItem(this.name) || "[]");
    } catch {
      return [];
    }
  }

  /** back: it was not taken, so that the rater needs it again. */
  keep(item, value, back = false) {
    this.entries = [...this.entries.filter((one) => one.item !== item), { item, value, back }].slice(-MOST);
    this.write();
  }

  /** The answer was taken back. */
  giveBack(item) {
    for (const entry of this.entries) entry.back ||= entry.item === item;
    this.write();
  }

  /** What an item begins with: a copy, or nothing. */
  before(item) {
    const entry = this.entries.find((one) => one.item === item && one.back);
    return entry && structuredClone(entry.value);
  }

  write() {
    let text = JSON.stringify(this.entries);
    while (text.length > LETTERS && this.entries.length > 1) {
      this.entries.shift();
      text = JSON.stringify(this.entries);
    }
    try { sessionStorage.setItem(this.name, text); } catch { /* kept until the page is left */ }
  }
}
