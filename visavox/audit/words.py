"""Findings of an audit in words, each with its cure."""

from __future__ import annotations

from collections.abc import Sequence

from visavox.audit.measures import FROM_FILE, LEAST_CLIPS, LIMIT, WITHIN, Finding

WORDS = {
    "leading_silence": "silence before the first sound (s)",
    "trailing_silence": "silence after the last sound (s)",
    "before_speech": "time before the first speech (s)",
    "after_speech": "time after the last speech (s)",
    "speech_share": "share of the clip that is speech",
    "leading_zeros": "digital silence at the start (s)",
    "loudness": "loudness (dB of full scale)",
    "peak": "loudest sample (dB of full scale)",
    "treble": "treble against the rest (dB)",
    "duration": "duration of the face track (s)",
    "start": "when the face track begins (s)",
    "has_audio": "has sound",
    "face_size": "face box (source pixels)",
    "first_frame": "brightness of the first face",
    "brightness": "brightness of the faces",
    "detail": "sharpness of the faces (dB)",
    "detection": "score of the face detector",
    "fps": "frames per second",
    "pixels": "resolution (pixels)",
    "bit_rate": "bit rate (kbit/s)",
    "sample_rate": "sample rate of the sound (Hz)",
    "channels": "channels of the sound",
    "file_duration": "duration of the file (s)",
    "codec": "codecs",
    "container": "container",
    "tags": "container tags",
    "audio_probe": "random audio encoder + linear probe",
    "video_probe": "random video encoder + linear probe",
}


CURES = {
    "leading_silence": "train and report with trim_silence=leading",
    "before_speech": "train and report with trim_silence=leading speech_gate=silero",
    "after_speech": "train and report with trim_silence=both speech_gate=silero",
    "leading_zeros": "train and report with trim_silence=leading",
    "trailing_silence": "train and report with trim_silence=both",
    "start": "train with temporal_jitter=0.5",
    "duration": "compare clips of equal length: a smaller max_clip_len, crop again",
    "file_duration": "compare clips of equal length: a smaller max_clip_len, crop again",
    "has_audio": "compare clips with sound only, or drop the sound of all",
    "loudness": "bring every clip to the same loudness before cropping",
    "peak": "bring every clip to the same loudness before cropping",
    "treble": "encode the sound of both classes alike: codecs and resampling take the treble away",
    "detail": "encode and resize the picture of both classes alike: both take the sharpness away",
    "audio_probe": "artefacts or a shortcut of the sound; test on another corpus before believing an audio score",
    "video_probe": "artefacts or a shortcut of the picture; test on another corpus before believing a video score",
}


ENCODED = "encode real and fake clips again with the same settings, then crop"


LOOKED_AT = "look at clips of both classes side by side; a detector may learn this instead of forgery"


def describe(findings: Sequence[Finding], limit: float = LIMIT) -> str:
    """The table, and every red flag in words with its cure."""
    lines = [f"{'measure':52}{'AUC':>7}   {'99 % interval':16}{'real':>22}{'fake':>22}"]
    for finding in findings:
        flag = "  <- flag" if finding.flagged else ""
        lines.append(
            f"{_what(finding):52}{finding.auc:7.3f}   [{finding.low:.3f}, {finding.high:.3f}]"
            f"{finding.real[:20]:>22}{finding.fake[:20]:>22}{flag}"
        )
    flagged = [finding for finding in findings if finding.flagged]
    if not flagged:
        few = min((min(f.n_real, f.n_fake) for f in findings), default=0) < LEAST_CLIPS
        lines.append(
            f"\nToo few clips to say (fewer than {LEAST_CLIPS} of a class)."
            if few
            else f"\nNo red flag: nothing measured here reaches AUC {limit:g} beyond doubt."
        )
    for finding in flagged:
        lines.append("\n" + in_words(finding))
    return "\n".join(lines)


def in_words(finding: Finding) -> str:
    """`RED FLAG: ...; cure`."""
    strength = max(finding.auc, 1 - finding.auc)
    name = finding.name.removesuffix(WITHIN)
    cure = CURES.get(name, ENCODED if name in FROM_FILE else LOOKED_AT)
    values = "" if finding.name.endswith("_probe") else f" (real {finding.real}, fake {finding.fake})"
    return f"RED FLAG: {_what(finding)} alone tells real from fake with AUC {strength:.3f}{values}; {cure}."


def _what(finding: Finding) -> str:
    """The measure in words; "within" where each clip is compared with those of the same identity."""
    name = finding.name.removesuffix(WITHIN)
    return WORDS.get(name, name) + (" within one person" if finding.name.endswith(WITHIN) else "")
