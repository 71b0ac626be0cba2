/** What a browser keeps for this page; in memory where it keeps nothing (blocked cookies, a full disk). */

const memory = new Map<string, string>();

export const storage = {
  read(kind: "localStorage" | "sessionStorage", name: string): string | null {
    try {
      return memory.get(name) ?? window[kind].getItem(name);
    } catch {
      return null;
    }
  },
  write(kind: "localStorage" | "sessionStorage", name: string, value: string): void {
    try {
      window[kind].setItem(name, value);
      memory.delete(name);
    } catch {
      memory.set(name, value);
    }
  },
};
