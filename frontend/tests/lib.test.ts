import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { problemOf } from "../api/client";
import type { Limits } from "../api/types";
import { pictureOf } from "../components/Findings";
import { refuseKeys } from "../env";
import { checkFile, checkPicture } from "../lib/checks";
import { bytes, clock, confidence, duration, percent } from "../lib/format";
import { history } from "../lib/history";
import { route } from "../lib/route";
import { after, ended, NODES, running } from "../lib/stages";
import { curve, paths } from "../lib/timeline";
import { token } from "../lib/token";

const LIMITS: Limits = {
  maxBytes: 100,
  maxSeconds: 60,
  maxPixels: 3840 * 2160,
  maxSide: 8192,
  minSide: 32,
  maxFps: 240,
  queueLength: 1,
  uploadsPerClient: 1,
  accept: [".mp4", ".mov"],
  retentionMinutes: 60,
};

beforeEach(() => localStorage.clear());
afterEach(() => void vi.restoreAllMocks());

test("a browser that keeps nothing still has a list and a token for as long as the page is open", () => {
  const refuse = () => {
    throw new DOMException("blocked", "SecurityError");
  };
  vi.spyOn(Storage.prototype, "getItem").mockImplementation(refuse);
  vi.spyOn(Storage.prototype, "setItem").mockImplementation(refuse);
  expect(history.read()).toEqual([]);
  expect(token.read()).toBe("");
  history.add("a");
  token.keep("word");
  expect(history.read()).toEqual(["a"]);
  expect(token.read()).toBe("word");
  vi.restoreAllMocks();
  history.clear(); // kept again, and no longer in memory
  token.keep("");
  expect(history.read()).toEqual([]);
});

test("a video that declares neither length nor rate is described by what it declares", () => {
  const media = { seconds: null, width: 640, height: 360, fps: null, hasSound: false };
  expect(pictureOf(media)).toBe("640 × 360, without sound");
  expect(pictureOf({ ...media, seconds: 4, fps: 25 })).toBe("4 s, 640 × 360, 25 frames/s, without sound");
});

test("a key in the environment ends the build, an address does not", () => {
  expect(() => refuseKeys({ VITE_GEMINI_API_KEY: "x" })).toThrow("VITE_GEMINI_API_KEY");
  expect(() => refuseKeys({ VITE_TOKEN: "x" })).toThrow("public");
  refuseKeys({ VITE_API_URL: "http://127.0.0.1:8000", GEMINI_API_KEY: "not built in" });
});

test("a file is checked by size and ending before it is sent", () => {
  const file = (name: string, size: number, type = "") => new File([new Uint8Array(size)], name, { type });
  expect(checkFile(file("a.mp4", 0), LIMITS)?.code).toBe("EMPTY_FILE");
  expect(checkFile(file("a.mp4", 101), LIMITS)?.code).toBe("UPLOAD_TOO_LARGE");
  expect(checkFile(file("a.pdf", 9), LIMITS)?.code).toBe("NOT_A_VIDEO");
  for (const name of ["a.mp4", "a.MOV", "a.b.mp4", "no ending"]) expect(checkFile(file(name, 100), LIMITS)).toBeNull();
  expect(checkFile(file("a.ogv", 9, "video/ogg"), LIMITS)).toBeNull();
});

test("a picture may be on its side, and is bounded in size and length", () => {
  expect(checkPicture({ seconds: 60, width: 2160, height: 3840 }, LIMITS)).toBeNull();
  expect(checkPicture({ seconds: 60.1, width: 64, height: 64 }, LIMITS)?.code).toBe("TOO_LONG");
  expect(checkPicture({ seconds: 1, width: 3841, height: 2160 }, LIMITS)?.code).toBe("TOO_LARGE");
  expect(checkPicture({ seconds: 1, width: 640, height: 31 }, LIMITS)?.code).toBe("TOO_SMALL");
  expect(checkPicture({ seconds: Number.POSITIVE_INFINITY, width: 0, height: 0 }, LIMITS)).toBeNull();
});

test("a node is active while one of its stages is the last, done when it was, passed where none was seen", () => {
  expect(running([])).toEqual(Array(NODES.length).fill("waiting"));
  expect(running(["queued", "ingest"])[0]).toBe("active");
  expect(running(["ingest", "faces", "models"])).toEqual(["done", "passed", "done", "passed", "active", "waiting"]);
  expect(running(["ingest", "faces"], true)[2]).toBe("failed");
  expect(after(["ingest", "faces"], "faces")).toEqual(["ingest", "faces"]);
  expect(after(["ingest", "faces"], "ingest")).toEqual(["faces", "ingest"]);
});

test("after the end a node has its seconds, or did not run", () => {
  const measured = (seconds: Record<string, number>) =>
    ended(Object.entries(seconds).map(([name, seconds]) => ({ name, seconds })));
  expect(
    measured({ container: 1, faces: 2, voice: 3, models: 9, "branch tiny": 1, "branch visual": 3, "branch sync": 5 }),
  ).toEqual([null, 1, 5, 1, 8, null]);
  expect(measured({ models: 1, "branch tiny": 1 }).slice(3)).toEqual([1, "skipped", null]); // the gate let it through
  expect(measured({ models: 4 }).slice(3)).toEqual(["skipped", 4, null]); // a detector of one part
});

test("a curve is the mean of what lies over each part, with gaps where nothing does", () => {
  const segment = (start: number, end: number, probability: number) => ({ start, end, probability, weight: null });
  expect(curve([segment(0, 2, 0.2), segment(1, 2, 0.6), segment(3, 4, 1)], 4, 4)).toEqual([0.2, 0.4, null, 1]);
  expect(paths([0.25, null, 1])).toEqual([
    { line: "M0,75.00 1,75.00", area: "M0,75.00 1,75.00 L1,100 L0,100 Z" },
    { line: "M2,0.00 3,0.00", area: "M2,0.00 3,0.00 L3,100 L2,100 Z" },
  ]);
});

test("the list holds ids alone, the newest first, twenty at most, and survives nonsense", () => {
  for (let n = 0; n < 25; n++) history.add(`id-${n}`);
  history.add("id-20");
  expect(history.read().slice(0, 3)).toEqual(["id-20", "id-24", "id-23"]);
  expect(history.read()).toHaveLength(20);
  history.remove("id-24");
  expect(history.read()[1]).toBe("id-23");
  localStorage.setItem("visavox.analyses", '{"not": "a list"}');
  expect(history.read()).toEqual([]);
  localStorage.setItem("visavox.analyses", "no JSON");
  expect(history.read()).toEqual([]);
});

test("only an id is taken from the address", () => {
  const id = "0b1f6d7e-2f0c-4a55-9d3c-2f1f4b8f9a10";
  location.hash = route.of(id);
  expect(route.read()).toBe(id);
  for (const other of ["#/analysis/..%2f..", "#/analysis/", "#x"]) {
    location.hash = other;
    expect(route.read()).toBeNull();
  }
});

test("an answer that is no problem document is a problem all the same", () => {
  expect(problemOf(502, "<html>Bad gateway</html>")).toMatchObject({ status: 502, code: "502" });
  expect(problemOf(413, '{"title":"T","code":"C","cure":"do this","detail":"D"}')).toMatchObject({
    title: "T",
    code: "C",
    cure: "do this",
    message: "D",
  });
});

test("numbers are said as people say them", () => {
  expect([bytes(900), bytes(2048), bytes(4 << 20), bytes(200 << 20)]).toEqual(["900 B", "2 KB", "4.0 MB", "200 MB"]);
  expect([clock(0), clock(59.96), clock(75.25)]).toEqual(["0:00.0", "1:00.0", "1:15.3"]);
  expect([duration(4), duration(600), duration(75)]).toEqual(["4 s", "10 min", "1 min 15 s"]);
  expect([confidence(0.93), confidence(1), confidence(0.5)]).toEqual(["93 %", "> 99.9 %", "50 %"]);
  expect([percent(0.93), percent(0.9996), percent(1), percent(0.0004)]).toEqual([
    "93 %",
    "> 99.9 %",
    "100 %",
    "< 0.1 %",
  ]);
});
