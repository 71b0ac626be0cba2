import { type ReactNode, useEffect, useRef } from "react";

/** Heading of a view; takes the focus when the view comes up, so that keyboard and screen reader are where the eye is. */
export function Heading({
  children,
  className = "",
  quiet,
}: {
  children: ReactNode;
  className?: string;
  quiet?: boolean;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (!quiet) heading.current?.focus({ preventScroll: true });
  }, [quiet]);
  return (
    <h1 ref={heading} tabIndex={-1} className={className}>
      {children}
    </h1>
  );
}
