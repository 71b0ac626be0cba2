/** Which analyses this browser asked for: their ids alone, in localStorage, newest first. */

import { storage } from "./storage";

const NAME = "visavox.analyses";
const MOST = 20;

function write(ids: string[]): void {
  storage.write("localStorage", NAME, JSON.stringify(ids));
  window.dispatchEvent(new Event("visavox.history")); // `storage` is told to the other tabs only
}

export const history = {
  read(): string[] {
    try {
      const read: unknown = JSON.parse(storage.read("localStorage", NAME) ?? "[]");
      return Array.isArray(read) ? read.filter((id) => typeof id === "string").slice(0, MOST) : [];
    } catch {
      return [];
    }
  },
  add(id: string): void {
    write([id, ...history.read().filter((other) => other !== id)].slice(0, MOST));
  },
  remove(id: string): void {
    write(history.read().filter((other) => other !== id));
  },
  clear(): void {
    write([]);
  },
  /** Call `listener` when any tab changes the list; returns what stops that. */
  watch(listener: () => void): () => void {
    window.addEventListener("storage", listener);
    window.addEventListener("visavox.history", listener);
    return () => {
      window.removeEventListener("storage", listener);
      window.removeEventListener("visavox.history", listener);
    };
  },
};
