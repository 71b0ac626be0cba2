import { useRef, useState } from "react";
import { Icon } from "./Icon";

interface Props {
  /** Of the analysed video, 64 hex digits. */
  sha256: string;
  bytes: number;
  onAttach: (file: File) => void;
}

/** After a reload the page has the verdict but no video: let the visitor give the same file again, and make sure that it is. */
export function Reattach({ sha256, bytes, onAttach }: Props) {
  const input = useRef<HTMLInputElement>(null);
  const [said, setSaid] = useState("");
  const take = async (file: File | undefined) => {
    if (!file) return;
    setSaid("Comparing …");
    try {
      if (file.size === bytes && (await isSame(file, sha256))) onAttach(file);
      else setSaid("That is another file: its content differs from what was analysed.");
    } catch {
      setSaid("The file cannot be read. Check that it is still there and may be opened, then choose it again.");
    }
  };
  return (
    <div className="max-w-sm">
      <Icon name="film" className="mx-auto mb-2 size-7" />
      <p>The video stays with you. Choose the same file again to see it above its time line.</p>
      <button type="button" className="button mt-3" onClick={() => input.current?.click()}>
        Choose the file
      </button>
      <input
        ref={input}
        type="file"
        accept="video/*"
        className="hidden"
        aria-label="The analysed video"
        onChange={(event) => {
          void take(event.target.files?.[0]);
          event.target.value = "";
        }}
      />
      <p role="status" className="mt-2">
        {said}
      </p>
    </div>
  );
}

/** Compare by sha256; where the browser offers none (no https), the equal size has to do. */
async function isSame(file: File, sha256: string): Promise<boolean> {
  if (!crypto.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}
