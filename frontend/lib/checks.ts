/** What can be said about a file before it is sent: the service's own limits, so that nobody waits for a refusal. */

import { Problem } from "../api/client";
import type { Limits } from "../api/types";
import { bytes, duration } from "./format";

export interface Picture {
  seconds: number;
  width: number;
  height: number;
}

/** Ending of a name, with its dot and in small letters; empty where there is none. */
export function ending(name: string): string {
  return /\.[^./\\]+$/.exec(name)?.[0].toLowerCase() ?? "";
}

/** The problem with a file's name or size, or null. */
export function checkFile(file: File, limits: Limits): Problem | null {
  if (file.size === 0) {
    return new Problem("The file is empty (0 bytes).", "Copy it again from its source.", "EMPTY_FILE");
  }
  if (file.size > limits.maxBytes) {
    return new Problem(
      `The file has ${bytes(file.size)}; up to ${bytes(limits.maxBytes)} are taken.`,
      "Cut it into parts, or encode it smaller.",
      "UPLOAD_TOO_LARGE",
    );
  }
  const found = ending(file.name);
  if (found && !limits.accept.includes(found) && !file.type.startsWith("video/")) {
    return new Problem(
      `“${found}” is no video that can be read here.`,
      `Give one of ${limits.accept.join(", ")}.`,
      "NOT_A_VIDEO",
    );
  }
  return null;
}

/** The problem with what the browser reads of a video, or null. */
export function checkPicture(picture: Picture, limits: Limits): Problem | null {
  const { seconds, width, height } = picture;
  if (Number.isFinite(seconds) && seconds > limits.maxSeconds) {
    return new Problem(
      `The video lasts ${duration(seconds)}; up to ${duration(limits.maxSeconds)} are taken.`,
      "Cut it into parts.",
      "TOO_LONG",
    );
  }
  if (width * height > limits.maxPixels || Math.max(width, height) > limits.maxSide) {
    return new Problem(
      `The picture has ${width} × ${height} pixels; up to ${(limits.maxPixels / 1e6).toFixed(1)} million are taken.`,
      "Scale the picture down.",
      "TOO_LARGE",
    );
  }
  if (width > 0 && Math.min(width, height) < limits.minSide) {
    return new Problem(
      `The picture has ${width} × ${height} pixels; each side needs ${limits.minSide}.`,
      "Give the video in a larger size.",
      "TOO_SMALL",
    );
  }
  return null;
}

/** What the browser reads of a file, or null where it reads nothing within two seconds: then the service has to look. */
export function look(file: File): Promise<Picture | null> {
  return new Promise((resolve) => {
    const video = document.createElement("video");
    const place = URL.createObjectURL(file);
    const end = (found: Picture | null) => {
      clearTimeout(timer);
      video.onloadedmetadata = null;
      video.onerror = null;
      video.removeAttribute("src");
      video.load(); // ends what is being read, before its address is taken away
      setTimeout(() => URL.revokeObjectURL(place), 1_000);
      resolve(found);
    };
    const timer = setTimeout(() => end(null), 2_000);
    video.preload = "metadata";
    video.onloadedmetadata = () => end({ seconds: video.duration, width: video.videoWidth, height: video.videoHeight });
    video.onerror = () => end(null);
    video.src = place;
  });
}
