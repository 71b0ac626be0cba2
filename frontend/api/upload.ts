/** The upload of one file, with its progress: XMLHttpRequest, since fetch tells of none. */

import { address, headers, Problem, problemOf, unreachable } from "./client";
import type { Status } from "./types";

/** Send a file and return the status of its analysis. Throws a Problem; `signal` gives the upload up. */
export function upload(
  file: File,
  onProgress: (sent: number, total: number) => void,
  signal: AbortSignal,
): Promise<Status> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address("/analyze?wait=0"));
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.lengthComputable ? event.total : file.size);
    request.onload = () => {
      try {
        if (request.status < 200 || request.status >= 300) throw problemOf(request.status, request.responseText);
        resolve(JSON.parse(request.responseText) as Status);
      } catch (error) {
        reject(error instanceof Problem ? error : problemOf(request.status, "")); // such as a proxy's page with status 200
      }
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("the upload was given up", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}
