/** What the parts of the detectors are called, for people. */

const NAMES: Record<string, [string, string]> = {
  tiny: ["Tiny gate", "patches of the face"],
  visual: ["Face", "single pictures of the face"],
  temporal: ["Course in time", "how the face changes"],
  audio: ["Voice", "the sound alone"],
  sync: ["Lips and sound", "whether they belong together"],
  video: ["Face", "pictures of the face"],
};

export function nameOf(branch: string): string {
  return NAMES[branch]?.[0] ?? branch;
}

export function meaningOf(branch: string): string {
  return NAMES[branch]?.[1] ?? "the detector as a whole";
}
