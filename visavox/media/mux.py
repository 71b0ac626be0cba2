"""Giving a video a sound without touching its picture: packets are copied, the sound is encoded."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from visavox.files import replacing
from visavox.media.container import choose_video, open_container, open_regular
from visavox.media.limits import LIMITS
from visavox.media.write import MUXERS


def copy_with_sound(video: Path, output: Path, audio: np.ndarray, sample_rate: int) -> None:
    """Write the picture of `video`, as it is, with sound (N,) int16 mono that starts with its first frame.

    The suffix of `output` names the container. The file appears when it is complete.
    """
    with replacing(output) as part, ExitStack() as open_things:
        file = open_things.enter_context(open_regular(str(video)))
        source = open_things.enter_context(open_container(str(video), file, LIMITS))
        picture = choose_video(str(video), source, LIMITS)
        target = open_things.enter_context(
            av.open(str(part), "w", MUXERS[output.suffix.lower()], container_options={"fflags": "+bitexact"})
        )
        copied = target.add_stream_from_template(picture)
        sound = target.add_stream("aac", rate=sample_rate, layout="mono")
        sent = 0
        for packet in source.demux(picture):
            if packet.dts is None:  # the empty one at the end
                continue
            heard = int(packet.dts * packet.time_base * sample_rate)  # sound and picture side by side in the file
            packet.stream = copied
            target.mux(packet)
            sent = _encode(target, sound, audio[:heard], sent, sample_rate)
        _encode(target, sound, audio, sent, sample_rate)
        target.mux(sound.encode(None))


def _encode(
    target: av.container.OutputContainer, sound: av.AudioStream, audio: np.ndarray, sent: int, sample_rate: int
) -> int:
    """Encode what of `audio` is not sent yet; how many samples are sent then."""
    if len(audio) <= sent:
        return sent
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None, sent:]), format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, sent, Fraction(1, sample_rate)
    target.mux(sound.encode(frame))
    return len(audio)
