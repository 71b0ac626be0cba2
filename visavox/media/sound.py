"""The sound of a video, put where its timestamps say."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.resampler import AudioResampler

# Seconds: sound is moved to its timestamp when it is off by more than one frame of the grid.
AUDIO_SLACK = 1 / 25 + 1e-9
# Seconds of decoded sound that are resampled at once: PCM in Matroska may come in frames of a single sample, and what a call
# of the resampler costs beside its samples is 15 microseconds.
AT_ONCE = 0.25


class Sound:
    """Decoded sound as runs of mono int16 samples at `rate`; a run begins where timestamps leave what came before."""

    finished = False
    """Whether what the file holds further lies beyond what is wanted."""
    lost_from: float | None = None
    """Seconds on the container's clock from which on sound was left out to save memory."""

    def __init__(self, stream: av.AudioStream, rate: int, first_channel: bool = False):
        """first_channel: take this one alone instead of the mix of all."""
        self.runs: list[tuple[Fraction, list[np.ndarray]]] = []  # (seconds on the container's clock, pieces (n,) int16)
        assert stream.time_base is not None  # every stream that was opened has one
        self._time_base, self.tick, self._rate = stream.time_base, float(stream.time_base), rate
        self.end = (stream.start_time or 0) * self.tick  # seconds at which the last sample has been heard
        self._resampler: AudioResampler | None = None
        self._waiting = AudioFifo()  # what the resampler has not been given yet
        self._kind: tuple[str, str, int] | None = None
        self._first_channel = first_channel
        self._held = 0  # samples

    @property
    def seconds_held(self) -> float:
        return self._held / self._rate

    def covers(self, end: Fraction | float | None) -> bool:
        return self.finished or (end is not None and bool(self.runs) and self.end >= end)

    def add(self, frame: av.AudioFrame) -> None:
        time, stamp = self.end if frame.pts is None else frame.pts * self.tick, frame.pts
        if self._first_channel:
            frame = _one_channel(frame, _channels_of(frame)[0])
        elif frame.layout.nb_channels > 2 and frame.layout.name.endswith(" channels"):  # libav would guess, or give up
            frame = _one_channel(frame, _channels_of(frame).mean(0))
        rate = frame.sample_rate
        kind = (frame.format.name, frame.layout.name, rate)
        if kind != self._kind or abs(time - self.end) > AUDIO_SLACK:
            self._finish_run()
            self._resampler, self._kind = AudioResampler("s16", "mono", self._rate), kind
            self._waiting = AudioFifo()
            self.runs.append((Fraction(time if stamp is None else stamp * self._time_base), []))
            self.end = time
            self._resample(frame)  # at once, for whether there is a way to mono shows here
        else:
            frame.pts = None  # its place in the run is known, and another one would be refused
            self._waiting.write(frame)
            if self._waiting.samples > AT_ONCE * rate:
                self._resample(self._waiting.read())
        self.end += frame.samples / rate

    def is_empty(self) -> bool:
        self._finish_run()
        return not self._held

    def cut(self, start: Fraction, count: int) -> np.ndarray:
        """(count,) int16 from `start` on; zeros where nothing is heard."""
        self._finish_run()
        sound = np.zeros(count, np.int16)
        for time, pieces in self.runs:
            at = round((time - start) * self._rate)
            for piece in pieces:
                low, high = max(at, 0), min(at + len(piece), count)
                if low < high:
                    sound[low:high] = piece[low - at : high - at]
                at += len(piece)
        return sound

    def forget(self) -> None:
        """Let go of all samples."""
        self.runs.clear()

    def _finish_run(self) -> None:
        if self._resampler is not None:
            if self._waiting.samples:
                self._resample(self._waiting.read())
            self._resample(None)
            self._resampler = self._kind = None

    def _resample(self, frame: av.AudioFrame | None) -> None:
        assert self._resampler is not None
        try:
            given = self._resampler.resample(frame)
        except av.FFmpegError:
            self._resampler = self._kind = None
            raise
        for out in given:
            if out is not None:  # a resampler with nothing to do hands its end marker back
                self.runs[-1][1].append(out.to_ndarray()[0])
                self._held += out.samples


def _channels_of(frame: av.AudioFrame) -> np.ndarray:
    """(C, N) float32 in [-1, 1]."""
    samples = frame.to_ndarray()  # planar (C, N), or packed (1, N * C)
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return (samples / -float(np.iinfo(samples.dtype.name).min)).astype(np.float32)
    return samples.astype(np.float32)


def _one_channel(frame: av.AudioFrame, samples: np.ndarray) -> av.AudioFrame:
    """`frame` with (N,) float32 alone."""
    alone = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="flt", layout="mono")
    alone.sample_rate = frame.sample_rate
    return alone
