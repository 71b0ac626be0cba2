/** The word that a guarded service asks for: kept for this tab's session only, never in the address or on the disk. */

import { storage } from "./storage";

const NAME = "visavox.token";

export const token = {
  read: (): string => storage.read("sessionStorage", NAME) ?? "",
  keep: (word: string): void => storage.write("sessionStorage", NAME, word),
};
