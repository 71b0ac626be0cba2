import { expect, test } from "vitest";
import { parseEvents } from "../api/events";

async function* pieces(text: string, size: number) {
  for (let at = 0; at < text.length; at += size) yield text.slice(at, at + size);
}

async function read(text: string, size = text.length) {
  const found = [];
  for await (const event of parseEvents(pieces(text, size))) found.push(event);
  return found;
}

const STREAM =
  ': beat\n\nevent: status\nid: 1\ndata: {"a":1}\n\nevent: status\r\nid: 2\r\ndata: one\r\ndata: two\r\n\r\ndata:bare\n\ndata: cut off';

test("events come out however the stream is cut", async () => {
  const whole = await read(STREAM);
  expect(whole).toEqual([
    { id: "1", name: "status", data: '{"a":1}' },
    { id: "2", name: "status", data: "one\ntwo" },
    { id: "2", name: "message", data: "bare" },
  ]);
  for (const size of [1, 2, 3, 7]) expect(await read(STREAM, size)).toEqual(whole);
});
