"""Stable codes of what can go wrong: what happened and what to do, in one table that commands, service and pages share.

    code_of(error)          # "EMPTY_FILE"
    CODES["EMPTY_FILE"]     # Fault(happened="The file is empty (0 bytes).", cure="Copy it again from its source.")

An exception of ours carries its code as `error.code`; rows of manifests and details files hold it beside the reason, which
names the file and its numbers. Codes are never renamed: programs decide by them.
"""

from __future__ import annotations

import errno
from typing import NamedTuple


class Fault(NamedTuple):
    """What a code stands for, for people."""

    happened: str
    """What was found."""
    cure: str
    """What to do about it."""


CODES: dict[str, Fault] = {
    # The file
    "NOT_FOUND": Fault("There is no such file or folder.", "Check the path."),
    "NOT_A_FILE": Fault("It is a folder, a pipe or a device.", "Give a regular file."),
    "UNREADABLE": Fault("The file cannot be opened.", "Check its permissions."),
    "EMPTY_FILE": Fault("The file is empty (0 bytes).", "Copy it again from its source."),
    "NOT_A_VIDEO": Fault(
        "It is no video file of a known kind.", "Convert it to MP4: ffmpeg -i FILE -c:v libx264 NEW.mp4"
    ),
    "CORRUPT_CONTAINER": Fault("The file was cut off or damaged.", "Copy it again from its source."),
    "NO_VIDEO": Fault("The file holds no moving picture.", "Give a file with a video stream."),
    "NO_FRAMES": Fault("No picture of it could be decoded.", "Copy it again from its source, or convert it to H.264."),
    "UNSUPPORTED_CODEC": Fault("There is no decoder for its codec.", "Convert it: ffmpeg -i FILE -c:v libx264 NEW.mp4"),
    "TOO_LARGE": Fault("It is larger than the stated limits.", "Scale the picture down, or cut the file into parts."),
    "TOO_SMALL": Fault("The picture is too small for a face.", "Give the video in a larger size."),
    "TOO_FAST": Fault("It has more frames a second than the stated limit.", "Convert it to 25 frames a second."),
    "TOO_LONG": Fault("It is longer than the stated limit.", "Cut it into parts."),
    "DECODER_FAILED": Fault("The decoder failed on it, was ended or took too long.", "Convert it anew with ffmpeg."),
    "TOO_MANY_STREAMS": Fault("It holds more streams than the stated limit.", "Keep one video and one audio stream."),
    # The video
    "NO_FACE": Fault("No face was found.", "Lower face_threshold, or give a video that shows a face."),
    "TOO_SHORT": Fault("Too few frames show a face.", "Give a longer video, or a smaller vshift."),
    "NO_SOUND": Fault("No voice is heard: it has no sound, or a silent one.", "Give a video with sound."),
    # The bundle
    "BAD_BUNDLE": Fault("The bundle is damaged or was not written by Visavox.", "Crop the video again."),
    "OTHER_SETTINGS": Fault(
        "The bundle was made with other settings.", "Crop the video again with the settings now asked for."
    ),
    "BAD_FEATURES": Fault(
        "The file of features is damaged or of another kind.", "Extract them again: visavox features"
    ),
    "BAD_SCORE": Fault("The network gave no number.", "Score again with score_precision=fp32."),
    # What is loaded
    "BAD_CONFIG": Fault("A setting is wrong.", "Correct it as the message says."),
    "BAD_TABLE": Fault(
        "A table of labels, splits or scores cannot be read.", "Correct the line that the message names."
    ),
    "BAD_WEIGHTS": Fault(
        "Weights are missing, damaged or of another network.", "Fetch them: visavox weights fetch NAME"
    ),
    # The run
    "TIMED_OUT": Fault("It took longer than --timeout allows.", "Give it more time, or a shorter video."),
    "WORKER_DIED": Fault("The process that worked on it was ended.", "Try fewer workers; the memory may not suffice."),
    "OUT_OF_MEMORY": Fault("The memory did not suffice.", "Use fewer workers, or a smaller submit_batch_size."),
    "NO_SPACE": Fault(
        "The disk is full.", "Free some space and run the same command again; it goes on where it stopped."
    ),
    "NOT_WRITABLE": Fault("A file cannot be written.", "Check the permissions of its folder, or choose another one."),
    "STORAGE_FAILED": Fault(
        "The storage of an s3:// or gs:// address did not give or take a file.",
        "Check address, credentials and connection, and run the same command again.",
    ),
    "LOCKED": Fault("Another run is writing there.", "Wait until it ends, or choose another output."),
    "POISONED": Fault("It ended the process that worked on it, each time.", "Convert it: ffmpeg -i FILE NEW.mp4"),
    "INTERNAL": Fault("Something failed that nobody foresaw.", "Report it with the message."),
    # The request to the service
    "BAD_REQUEST": Fault("The request cannot be understood.", "Send it as /openapi.json describes."),
    "BAD_PARAMETER": Fault("A parameter of the request is wrong.", "Correct it as the detail says."),
    "BAD_HOST": Fault("The request names another host.", "Ask by the address the service listens on."),
    "UNAUTHORIZED": Fault("The token is missing or wrong.", "Send Authorization: Bearer TOKEN."),
    "FOREIGN_ORIGIN": Fault(
        "Another site's page sent the request.", "List its origin in VISAVOX_SERVICE_CORS_ORIGINS."
    ),
    "NO_SUCH_ANALYSIS": Fault("There is no such analysis.", "Check its id; analyses are deleted after a time."),
    "NO_SUCH_PAGE": Fault("There is nothing at this address.", "/openapi.json lists what there is."),
    "METHOD_NOT_ALLOWED": Fault("This address knows no such method.", "/openapi.json lists what there is."),
    "TOO_SLOW": Fault("The upload came too slowly.", "Send it again over a faster connection."),
    "NOT_DONE": Fault("The analysis has not ended with a verdict.", "Ask again when its status is complete."),
    "UPLOAD_TOO_LARGE": Fault("The upload is larger than the stated limit.", "Cut the video, or scale it down."),
    "NOT_MULTIPART": Fault("It is no form upload.", "Send multipart/form-data with the video in the field file."),
    "BAD_UPLOAD": Fault("The form does not hold one video.", "Send one file in the field file, and nothing else."),
    "TOO_MANY_UPLOADS": Fault("Too many uploads at once.", "Wait until one of them is through."),
    "QUEUE_FULL": Fault("Too many videos are waiting.", "Try again later."),
    "STORE_DOWN": Fault("The queue cannot be reached.", "Try again later."),
    "NOT_READY": Fault("The service cannot judge at the moment.", "Try again later; /readyz says what is missing."),
}

OF_MEDIA = {
    "not_found": "NOT_FOUND",
    "not_a_file": "NOT_A_FILE",
    "empty": "EMPTY_FILE",
    "unreadable": "UNREADABLE",
    "not_media": "NOT_A_VIDEO",
    "truncated": "CORRUPT_CONTAINER",
    "no_video": "NO_VIDEO",
    "no_frames": "NO_FRAMES",
    "unsupported_codec": "UNSUPPORTED_CODEC",
    "too_large": "TOO_LARGE",
    "too_small": "TOO_SMALL",
    "too_fast": "TOO_FAST",
    "too_long": "TOO_LONG",
    "too_many_streams": "TOO_MANY_STREAMS",
    "decoder": "DECODER_FAILED",
}
"""The code of each `reason` of a MediaError."""

OF_STATUS = {"no_face": "NO_FACE", "too_short": "TOO_SHORT"}
"""The code of each status that a video itself brings about."""

OF_SYSTEM = {
    errno.ENOSPC: "NO_SPACE",
    errno.EDQUOT: "NO_SPACE",
    errno.EFBIG: "NOT_WRITABLE",
    errno.EROFS: "NOT_WRITABLE",
    errno.EACCES: "NOT_WRITABLE",
    errno.EPERM: "NOT_WRITABLE",
    errno.ENOENT: "NOT_FOUND",
    errno.ENOTDIR: "NOT_WRITABLE",
    errno.EISDIR: "NOT_A_FILE",
    errno.ENOMEM: "OUT_OF_MEMORY",
}
"""The code of a system error that comes without one of ours."""


def code_of(error: BaseException) -> str:
    """Return the code of an exception: its own, or that of the system error it is; INTERNAL where neither is known."""
    own = getattr(error, "code", None)
    if isinstance(own, str) and own in CODES:
        return own
    if isinstance(error, OSError) and error.errno in OF_SYSTEM:
        return OF_SYSTEM[error.errno]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return "OUT_OF_MEMORY"
    return "INTERNAL"
