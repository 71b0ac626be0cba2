/** A time line as a curve that can be drawn. */

import type { Segment } from "../api/types";

/** Mean P(fake) of the segments over each of `count` equal parts of `seconds`; null where there is none. */
export function curve(segments: readonly Segment[], seconds: number, count: number): (number | null)[] {
  const sums = new Float64Array(count);
  const numbers = new Uint32Array(count);
  for (const { start, end, probability } of segments) {
    const first = Math.max(0, Math.floor((start / seconds) * count));
    const last = Math.min(count - 1, Math.max(first, Math.ceil((end / seconds) * count) - 1));
    for (let n = first; n <= last; n++) {
      sums[n] = (sums[n] ?? 0) + probability;
      numbers[n] = (numbers[n] ?? 0) + 1;
    }
  }
  return Array.from(sums, (sum, n) => (numbers[n] ? sum / numbers[n] : null));
}

/** SVG paths of a curve, one for each stretch without a gap, in a box of `count` × 100 with P = 1 at the top. */
export function paths(values: readonly (number | null)[]): { line: string; area: string }[] {
  const found: { line: string; area: string }[] = [];
  let begin = -1;
  for (let n = 0; n <= values.length; n++) {
    const value = n < values.length ? values[n] : null;
    if (value != null && begin < 0) begin = n;
    if (value == null && begin >= 0) {
      const steps = values.slice(begin, n).map((p, k) => {
        const y = (100 - 100 * (p ?? 0)).toFixed(2);
        return `${begin + k},${y} ${begin + k + 1},${y}`;
      });
      const line = `M${steps.join(" L")}`;
      found.push({ line, area: `${line} L${n},100 L${begin},100 Z` });
      begin = -1;
    }
  }
  return found;
}

/** Seconds between marks so that about `count` of them fit. */
export function markEvery(seconds: number, count: number): number {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
  return steps.find((step) => seconds / step <= count) ?? 600;
}
