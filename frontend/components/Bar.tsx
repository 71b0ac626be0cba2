import { m } from "motion/react";

/** A progress bar; `value` is 0 to 100. */
export function Bar({ value, label }: { value: number; label: string }) {
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(value)}
      className="h-2 overflow-hidden rounded-full bg-well"
    >
      <m.div
        className="h-full origin-left rounded-full bg-accent"
        initial={false}
        animate={{ scaleX: Math.min(1, value / 100) }}
        transition={{ duration: 0.35, ease: "easeOut" }}
      />
    </div>
  );
}
