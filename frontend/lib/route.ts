/** Which analysis the address names: `#/analysis/ID`, so that reload, back and a second tab find it again. */

const PATTERN = /^#\/analysis\/([0-9a-fA-F-]{36})$/;

export const route = {
  read: (): string | null => PATTERN.exec(location.hash)?.[1] ?? null,
  of: (id: string): string => `#/analysis/${id}`,
  /** Name no analysis any more, and tell nobody: what comes next is on its way already. */
  leave(): void {
    window.history.pushState(null, "", location.pathname);
  },
  go(id: string | null): void {
    const there = id === null ? location.pathname : route.of(id);
    window.history.pushState(null, "", there);
    window.dispatchEvent(new PopStateEvent("popstate"));
  },
};
