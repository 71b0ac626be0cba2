/** Line drawings of 24 × 24, beside words that say the same. */

const PATHS = {
  upload: "M12 16V5m0 0L7.5 9.5M12 5l4.5 4.5M4 16v2.5A1.5 1.5 0 0 0 5.5 20h13a1.5 1.5 0 0 0 1.5-1.5V16",
  check: "M5 12.5l4.5 4.5L19 7.5",
  alert:
    "M12 8v5m0 3.2v.1M10.6 4.4L2.9 17.8A1.6 1.6 0 0 0 4.3 20.2h15.4a1.6 1.6 0 0 0 1.4-2.4L13.4 4.4a1.6 1.6 0 0 0-2.8 0z",
  question: "M9 9.2a3 3 0 1 1 4.4 2.7c-.9.5-1.4 1.1-1.4 2.1m0 2.8v.1M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
  download: "M12 4v11m0 0l-4.5-4.5M12 15l4.5-4.5M4 19.5h16",
  trash: "M4 7h16M9.5 7V4.5h5V7M6 7l1 12.5h10L18 7M10 11v5M14 11v5",
  play: "M8 5.5v13l11-6.5z",
  film: "M4 5h16v14H4zM8.5 5v14M15.5 5v14M4 9.7h4.5M4 14.3h4.5M15.5 9.7H20M15.5 14.3H20",
  minus: "M6 12h12",
  cross: "M6 6l12 12M18 6L6 18",
  cloud: "M4 4l16 16M9 6.6A6 6 0 0 1 17.7 11 4 4 0 0 1 20 17.4M7 9.3A4.3 4.3 0 0 0 7.3 18h8.2",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, className = "size-5" }: { name: IconName; className?: string }) {
  return (
    <svg
      viewBox="0 0 24 24"
      className={`shrink-0 ${className}`}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
