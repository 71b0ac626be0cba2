/** Numbers for people. */

const MIB = 1024 * 1024;

export function bytes(count: number): string {
  if (count < 1024) return `${count} B`;
  if (count < MIB) return `${Math.round(count / 1024)} KB`;
  const size = count / MIB;
  return size < 10 ? `${size.toFixed(1)} MB` : `${Math.round(size)} MB`;
}

/** 75.25 -> "1:15.3"; tenths are kept, since flagged stretches are short. */
export function clock(seconds: number): string {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = (tenths % 600) / 10;
  return `${minutes}:${rest.toFixed(1).padStart(4, "0")}`;
}

/** 75 -> "1 min 15 s". */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const rest = whole % 60;
  return rest === 0 ? `${whole / 60} min` : `${Math.floor(whole / 60)} min ${rest} s`;
}

export function took(seconds: number): string {
  return seconds < 0.01 ? "< 0.01 s" : seconds < 10 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(1)} s`;
}

/** A share of one as percent; what is not all and not nothing is not rounded to it. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 99.9 && value < 100) return "> 99.9 %";
  if (value < 0.1 && value > 0) return "< 0.1 %";
  return `${value > 99 || value < 1 ? Number(value.toFixed(1)) : Math.round(value)} %`;
}

/** A confidence as percent: however close to one, it is no certainty. */
export function confidence(share: number): string {
  return share > 0.999 ? "> 99.9 %" : percent(share);
}

export function date(iso: string): string {
  return new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
