"""A page that says of one video whether it is forged, how sure it is, and at which seconds.

    make app                                                            # from nothing; http://localhost:8501
    VISAVOX_XCEPTION=xception.ckpt .venv/bin/streamlit run streamlit_app.py

The upload is cropped once; after that every change of the settings is arithmetic on what the networks said, and only
frames that were not looked at before go through a network.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

HERE = Path(__file__).parent
CHECKPOINTS = ("xception.ckpt", "demo/app/xception.ckpt")
SUFFIXES = ("mp4", "avi", "mov", "mkv", "webm")
PLAYED_BY_BROWSERS = {".mp4", ".mov", ".webm"}
STAGES = {
    "decode": "1 of 4: reading the video and following the face",
    "encode": "2 of 4: cutting out the face",
    "sound": "3 of 4: listening to the sound",
    "frames": "4 of 4: looking at the faces",
}
STRATEGIES = {
    "equal": "Equal (50 / 50)",
    "video_trust": "Video trust (85 / 15)",
    "adaptive": "Adaptive (by confidence)",
    "either": "Either (the more suspicious one)",
}
POOLINGS = ["mean", "max", "p90", "top_k"]
COLOURS = {"fake": "red", "real": "green", "undetermined": "orange"}


class Clip(NamedTuple):
    """What is kept of an upload while its settings are tried."""

    name: str
    session: Any
    """`Session` of the scorer with this clip: what its networks said so far."""
    bundle: Any
    """Bundle, or None where no face was found and the sound is judged alone."""
    pictures: list[tuple[float, Any]]
    """Second and frame (H, W, 3) uint8 with its face box."""
    video: bytes
    film_start: float
    """Second of the video at which the video begins."""
    seconds: dict[str, float]


def main() -> None:
    st.set_page_config(page_title="Visavox", layout="wide")
    st.title("Is this video forged?")
    checkpoint = find_checkpoint()
    if checkpoint is None:
        st.error(
            "There are no trained weights, so there is no verdict. `make app` trains a tiny pair on synthetic clips; "
            "`visavox fuse` makes a checkpoint of two branches, which VISAVOX_XCEPTION then names."
        )
        return
    judge = load_judge(str(checkpoint), checkpoint.stat().st_mtime_ns)
    settings = choose_settings(judge.scorer.settings)
    describe_checkpoint(checkpoint, judge.scorer.card, settings)
    chosen = choose_clip()
    progress, result = st.empty(), st.empty()  # emptied at once, so that no old verdict stands under a new video
    if chosen is None:
        result.info("Upload a video, or take one of the three samples.")
        return
    clip = prepare(*chosen, judge, progress)
    if clip is not None:
        with result.container():
            show(clip, settings)


def plain(text: str) -> str:
    """A name or a message from outside as Markdown that shows it letter by letter: no link, picture or colour comes of it."""
    from visavox.files import shown

    return re.sub(r"([\\`*_\[\]<>#|$~]|:(?=[\w/]))", r"\\\1", shown(text))


def find_checkpoint() -> Path | None:
    """VISAVOX_XCEPTION where it is set, else the checkout's own."""
    named = os.environ.get("VISAVOX_XCEPTION")
    places = [Path(named)] if named else [HERE / place for place in CHECKPOINTS]
    return next((place for place in places if place.is_file()), None)


@st.cache_resource(show_spinner="Loading the networks")
def load_judge(path: str, _changed: int) -> Any:
    import visavox
    from visavox.detectors.single import HouseJudge

    return HouseJudge.of(visavox.load(path))


@st.cache_data(show_spinner="Drawing the samples")
def sample_bytes(name: str) -> bytes:
    from examples.samples import make_samples

    with tempfile.TemporaryDirectory() as folder:
        return make_samples(Path(folder))[name].read_bytes()


def choose_settings(trained: Any) -> Any:
    """The side bar: settings of the fusion, those of the checkpoint where nobody has moved them."""
    bar = st.sidebar
    bar.header("Settings")
    strategy = bar.selectbox(
        "Fusion strategy", list(STRATEGIES), list(STRATEGIES).index(trained.strategy), STRATEGIES.get, key="strategy"
    )
    tau = trained.tau
    if strategy == "adaptive":
        tau = bar.slider("Tau (sharpness of the weights)", 0.0, 20.0, float(trained.tau), 0.1, key="tau")
    temperature = bar.slider(
        "Audio temperature", 1.0, 10.0, float(trained.audio_temperature), 0.5, key="audio_temperature"
    )
    threshold = bar.slider("Decision threshold, P(fake)", 0.3, 0.7, float(trained.threshold), 0.01, key="threshold")
    pooling = bar.selectbox(
        "A clip's P(fake) is the ... of its segments'", POOLINGS, POOLINGS.index(trained.pooling), key="pooling"
    )
    abstain = bar.slider(
        "No verdict below this confidence", 0.5, 0.95, float(trained.abstain_below), 0.01, key="abstain_below"
    )
    skip = bar.slider("Frame skip", 1, 15, min(trained.video.frame_skip, 15), key="frame_skip")
    most = bar.number_input("Max frames", 1, 500, min(trained.video.max_frames, 500), key="max_frames")
    video = trained.video.model_copy(update={"frame_skip": int(skip), "max_frames": int(most)})
    return trained.model_copy(
        update={
            "strategy": strategy,
            "tau": tau,
            "audio_temperature": temperature,
            "threshold": threshold,
            "abstain_below": abstain,
            "pooling": pooling,
            "video": video,
        }
    )


def describe_checkpoint(path: Path, card: Any, settings: Any) -> None:
    trained_on = plain(card.trained_on or "not said")
    if card.synthetic:
        st.warning(f"This is a demonstration. The networks were trained on {trained_on}.")
    st.sidebar.header("Checkpoint")
    st.sidebar.markdown(
        f"{plain(path.name)}, trained on {trained_on}.\n\nVideo: {settings.video.backbone}, {settings.video.size} px. "
        f"Audio: {settings.audio.backbone}, {settings.audio.size} px.\n\n"
        f"Calibration: {plain(card.calibration)}.\n\n"
        f"P(fake): 0 = real, 1 = fake. FAKE from {settings.threshold:.2f} on."
    )


def choose_clip() -> tuple[str, bytes] | None:
    """Name and content of what is uploaded, or of a sample."""
    from examples.samples import NAMES
    from visavox.preprocessing.single import SECONDS

    upload = st.file_uploader(
        f"Video (up to {st.get_option('server.maxUploadSize')} MB; the first {SECONDS:.0f} s are read)", SUFFIXES
    )
    samples = st.empty()
    if upload is not None:
        st.session_state.pop("sample", None)
        return upload.name, upload.getvalue()
    for column, (name, label) in zip(samples.columns(len(NAMES)), NAMES.items()):
        if column.button(f"Sample: {label}", key=name, width="stretch"):
            st.session_state["sample"] = name
    name = st.session_state.get("sample")
    return (name, sample_bytes(name)) if name else None


def prepare(name: str, content: bytes, judge: Any, place: Any) -> Clip | None:
    """The clip of an upload, cropped once; an error in words where it gives none. `place` shows the stages."""
    import hashlib

    key = (name, hashlib.sha256(content).hexdigest(), judge.scorer)
    if st.session_state.get("clip_key") == key:
        return st.session_state["clip"]
    from visavox.preprocessing import pipeline

    status = place.status("Starting", expanded=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload").with_suffix(Path(name).suffix.lower())
        path.write_bytes(content)
        try:
            clip = crop_and_look(name, path, content, judge, status)
        except (ValueError, OSError) as error:
            status.update(label="This video could not be judged", state="error")
            kind, reason = pipeline.explain(error)
            st.error(plain(reason.replace(str(path), name)))
            if kind == "failed":
                st.caption(
                    f"What can be read is {', '.join(SUFFIXES)}. `ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4` makes one."
                )
            return None
    took = sum(clip.seconds.values())
    for stage, seconds in clip.seconds.items():
        status.write(f"{stage}: {seconds:.2f} s")
    status.update(label=f"Done in {took:.1f} s", state="complete")
    st.session_state["clip_key"], st.session_state["clip"] = key, clip
    return clip


def crop_and_look(name: str, path: Path, content: bytes, judge: Any, status: Any) -> Clip:
    from visavox.bundle import Bundle
    from visavox.detectors.xception.scorer import Session

    watch, config = announcing(status), judge.preprocess.config
    clip = judge.see(path, watch=watch)
    session = Session(judge.scorer, clip)
    session.explain(watch=watch)
    if not isinstance(clip, Bundle):
        return Clip(name, session, None, [], content, 0.0, watch.seconds)
    video, start = playable(path, clip, content, config.resample_rate)
    return Clip(name, session, clip, sample_pictures(path, clip, config.max_clip_len), video, start, watch.seconds)


def announcing(status: Any) -> Any:
    """A stopwatch that says on the page which stage has begun."""
    from visavox.progress import Stopwatch

    class Announcing(Stopwatch):
        at = ""

        @contextmanager
        def __call__(self, stage: str) -> Iterator[None]:
            if STAGES.get(stage, self.at) != self.at:
                self.at = STAGES[stage]
                status.update(label=self.at)
                status.write(self.at)
            with super().__call__(stage):
                yield

    return Announcing()


def sample_pictures(path: Path, bundle: Any, length: float, count: int = 4) -> list[tuple[float, Any]]:
    """Evenly chosen frames of the video, 320 pixels high at most, with the box around the face."""
    import cv2
    import numpy as np

    from visavox import media

    wanted = {
        round(float(bundle.times[t]) * 25): t
        for t in np.linspace(0, bundle.track_frames - 1, count).astype(int).tolist()
    }
    pictures = []
    with media.open_video(path, max_seconds=length) as video:
        for n, frame in enumerate(video.frames()):
            if n in wanted:
                left, top, right, bottom = (int(v) for v in bundle.boxes[wanted[n]])
                frame = cv2.rectangle(
                    frame.copy(), (left, top), (right, bottom), (255, 64, 64), max(2, len(frame) // 150)
                )
                scale = min(1.0, 320 / len(frame))
                small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                pictures.append((n / 25, small))
    return pictures


def playable(path: Path, bundle: Any, content: bytes, rate: int) -> tuple[bytes, float]:
    """What a browser can play, and the second at which it begins: the upload, or else the face track as MP4."""
    if path.suffix in PLAYED_BY_BROWSERS:
        return content, 0.0
    from visavox.media import write_video

    track = (bundle.frame(t) for t in range(bundle.track_frames))
    place = path.with_name("video.mp4")
    write_video(place, track, bundle.audio if bundle.status == "ok" else None, fps=25, sample_rate=rate)
    return place.read_bytes(), float(bundle.times[0])


def show(clip: Clip, settings: Any) -> None:
    analysis = clip.session.explain(settings)
    show_verdict(analysis)
    show_branches(analysis)
    if clip.bundle is not None:
        first, last = clip.bundle.times[[0, -1]]
        notes = f" ({plain(clip.bundle.notes.replace(chr(10), '; '))})" if clip.bundle.notes else ""
        st.caption(f"A face was followed from {first:.1f} to {last:.1f} s; only these seconds are judged{notes}.")
    st.subheader("Over the seconds of the video")
    st.altair_chart(time_line(analysis))
    show_flagged(analysis, clip)
    if clip.pictures:
        st.subheader("Faces that were followed")
        for column, (second, picture) in zip(st.columns(len(clip.pictures)), clip.pictures):
            column.image(picture, caption=f"{second:.1f} s")
    compare_with_truth(analysis)
    stem = Path(clip.name).stem
    left, right = st.columns(2)
    left.download_button("Download JSON", analysis.to_json(), f"{stem}.json", "application/json", width="stretch")
    right.download_button("Download CSV", analysis.to_csv(), f"{stem}.csv", "text/csv", width="stretch")


def show_verdict(analysis: Any) -> None:
    words = "NO VERDICT" if analysis.verdict == "undetermined" else analysis.verdict.upper()
    st.header(f":{COLOURS[analysis.verdict]}[{words}]")
    if analysis.verdict == "undetermined":
        least, below = analysis.least_confidence, f"The confidence of {analysis.confidence:.0%} is below"
        st.write(analysis.undecided or f"{below} {least:.0%}, from which on a verdict is given.")
    for note in analysis.notes:
        st.info(note)


def show_branches(analysis: Any) -> None:
    columns = st.columns(2 + len(analysis.branches))
    columns[0].metric("P(fake)", f"{analysis.probability:.3f}")
    columns[1].metric("Confidence", f"{analysis.confidence:.1%}")
    for column, branch in zip(columns[2:], analysis.branches):
        column.metric(f"{branch.name.capitalize()}, weight {branch.weight:.3f}", _number(branch.probability))


def time_line(analysis: Any) -> Any:
    """Frames as points, windows of sound and their fusion as bars over their seconds, the flagged seconds shaded."""
    import altair as alt
    import pandas as pd

    x = alt.X("start:Q", title="seconds")
    y = alt.Y("p:Q", title="P(fake)", scale=alt.Scale(domain=[0, 1]))
    over_time = {branch.name: branch.timeline for branch in analysis.branches}
    frames = pd.DataFrame([{"start": s.start, "p": s.probability, "what": "frame"} for s in over_time["video"]])
    bars = pd.DataFrame(
        [
            {"start": s.start, "end": s.end, "p": s.probability, "what": what}
            for what, timeline in (("window of sound", over_time["audio"]), ("fused", analysis.timeline))
            for s in timeline
        ]
    )
    colour = alt.Color(
        "what:N",
        title=None,
        legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=["frame", "window of sound", "fused"], range=["#4c78a8", "#f58518", "#b22222"]),
    )
    flagged = pd.DataFrame(analysis.flagged, columns=["start", "end"])
    layers = [
        alt.Chart(flagged).mark_rect(color="#b22222", opacity=0.12).encode(x="start:Q", x2="end:Q"),
        alt.Chart(pd.DataFrame({"p": [analysis.threshold]})).mark_rule(strokeDash=[4, 4]).encode(y=y),
        alt.Chart(bars).mark_bar(height=4).encode(x=x, x2="end:Q", y=y, color=colour),
    ]
    if len(frames):
        layers.append(alt.Chart(frames).mark_point(filled=True, size=25).encode(x=x, y=y, color=colour))
    return alt.layer(*layers).properties(height=300)


def show_flagged(analysis: Any, clip: Clip) -> None:
    """The video; a button for each flagged stretch plays only that one."""
    start, end = 0.0, None
    if not analysis.flagged:
        st.write("No second reaches the threshold.")
    else:
        labels = {f"{a:.1f} to {b:.1f} s": (a, b) for a, b in analysis.flagged}
        choice = st.segmented_control("Flagged seconds (choose one to play it)", list(labels))
        if choice:
            start, end = (max(0.0, second - clip.film_start) for second in labels[choice])
    left, _ = st.columns([1, 1])
    left.video(clip.video, start_time=start, end_time=end)


def compare_with_truth(analysis: Any) -> None:
    truth = st.radio("What it really is, if you know", ["unknown", "REAL", "FAKE"], horizontal=True)
    if truth != "unknown" and analysis.verdict != "undetermined":
        right = truth == (said := analysis.verdict.upper())
        (st.success if right else st.error)(f"The verdict {said} is {'right' if right else 'wrong'}.")


def _number(p: float | None) -> str:
    return "missing" if p is None else f"{p:.3f}"


if __name__ == "__main__":
    main()
