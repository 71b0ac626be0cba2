import { render, screen } from "@testing-library/react";
import { expect, test, vi } from "vitest";
import { Boundary } from "../components/Boundary";

test("what cannot be drawn is said in place of an empty page", () => {
  const quiet = vi.spyOn(console, "error").mockImplementation(() => undefined);
  const Broken = (): never => {
    throw new TypeError("no such field");
  };
  render(
    <Boundary>
      <Broken />
    </Boundary>,
  );
  expect(screen.getByText("The page cannot show this.")).toBeDefined();
  expect(screen.getByText(/no such field/)).toBeDefined();
  quiet.mockRestore();
});
