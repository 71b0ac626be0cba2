import { act, render, screen } from "@testing-library/react";
import { domAnimation, LazyMotion } from "motion/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DeepfakeDetector } from "../components/DeepfakeDetector";

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", vi.fn());
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("the simulation is called a demo, runs through all stages, asks nobody and shows no verdict", () => {
  render(
    <LazyMotion features={domAnimation} strict>
      <DeepfakeDetector simulate />
    </LazyMotion>,
  );
  const nodes = () => [...document.querySelectorAll<HTMLElement>("[data-testid=pipeline] [data-state]")];
  const active = new Set<number>();
  for (let step = 0; step < 24; step++) {
    act(() => void vi.advanceTimersByTime(1_100));
    active.add(nodes().findIndex((node) => node.dataset.state === "active"));
    expect(screen.getByText("demo")).toBeDefined();
    expect(document.body.textContent).not.toMatch(/Deepfake|Authentic|Undetermined|\d %|confidence/);
    expect(document.querySelector("[data-testid=verdict], input")).toBeNull();
  }
  for (const node of [0, 1, 2, 3, 4, 5]) expect(active).toContain(node);
  expect(fetch).not.toHaveBeenCalled();
});
