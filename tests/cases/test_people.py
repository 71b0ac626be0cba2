"""People: who is followed in a video, on how many of its frames, and what the notes say. Every file is written here."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import pytest

from tests.cases.cases import Case, held_by
from visavox import config as configuration
from visavox.media import write_video
from visavox.preprocessing import tools
from visavox.preprocessing.pipeline import CropError
from visavox.synthetic.clips import render

SETTINGS = ["frame_size=96", "face_detection_step=16", "detector.patch_size=16"]


class Scene(NamedTuple):
    """T frames at 25 fps with who is seen where."""

    frames: np.ndarray
    """(T, H, W, 3) uint8 RGB."""
    noses: np.ndarray
    """(T, P, 2) pixels of the tip of each of P persons' noses, NaN where a person is not seen."""
    sound: np.ndarray | None
    """(640 T,) int16, or None."""


def person(identity: int = 1, frames: int = 75, size: int = 192) -> Scene:
    clip = render(identity, 7, frames / 25, size)
    return Scene(clip.frames, clip.landmarks[:, 2:3], clip.audio)


def beside(large: Scene, small: Scene, sound: np.ndarray | None) -> Scene:
    """Two persons side by side."""
    T, side, other = len(large.frames), large.frames.shape[1], small.frames.shape[1]
    frames = np.full((T, side, side + other, 3), 90, np.uint8)
    frames[:, :, :side] = large.frames
    frames[:, :other, side:] = small.frames
    return Scene(frames, np.concatenate([large.noses, small.noses + [side, 0]], 1), sound)


def changed(scene: Scene, change, first: int = 0, last: int | None = None) -> Scene:
    """The scene with change(frame) in place of the frames from `first` to before `last`."""
    frames = scene.frames.copy()
    for index in range(len(frames))[first:last]:
        frames[index] = change(frames[index])
    return scene._replace(frames=frames)


def wall(scene: Scene, first: int, last: int) -> Scene:
    """The scene with nobody in it from `first` to before `last`."""
    noses = scene.noses.copy()
    noses[first:last] = np.nan
    return changed(scene._replace(noses=noses), lambda frame: np.full_like(frame, frame[2, 2]), first, last)


def shots(*scenes: Scene) -> Scene:
    """One scene after the other; each has persons of its own."""
    people = sum(scene.noses.shape[1] for scene in scenes)
    noses, seen = [], 0
    for scene in scenes:
        these = np.full((len(scene.frames), people, 2), np.nan)
        these[:, seen : seen + scene.noses.shape[1]] = scene.noses
        noses.append(these)
        seen += scene.noses.shape[1]
    sound = np.concatenate([scene.sound for scene in scenes])
    return Scene(np.concatenate([scene.frames for scene in scenes]), np.concatenate(noses), sound)


def grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def cartoon(frame: np.ndarray) -> np.ndarray:
    """Few flat colours and black outlines."""
    flat = cv2.bilateralFilter(frame, 9, 60, 9) // 40 * 40 + 20
    edges = cv2.Canny(frame, 60, 120)
    return np.where(edges[..., None] > 0, np.uint8(0), flat.astype(np.uint8))


def turned(frame: np.ndarray) -> np.ndarray:
    """A head turned away: the middle of the picture a third as wide before the wall, half of it dark."""
    width = frame.shape[1]
    left, right, third = width // 4, width - width // 4, width // 6
    out = frame.copy()
    out[:, left:right] = frame[2, 2]
    out[:, width // 2 - third // 2 : width // 2 - third // 2 + third] = cv2.resize(
        frame[:, left:right], (third, len(frame))
    )
    out[:, width // 2 : right] //= 2
    return out


def hand(frame: np.ndarray) -> np.ndarray:
    """A hand before the mouth and the chin."""
    height, width = frame.shape[:2]
    return cv2.ellipse(
        frame.copy(), (width // 2, int(0.66 * height)), (width // 6, height // 12), 0, 0, 360, (150, 110, 90), -1
    )


def brighter(frame: np.ndarray) -> np.ndarray:
    return np.clip(frame * 0.6 + 100, 0, 255).astype(np.uint8)


def in_a_room(scene: Scene) -> Scene:
    """The scene as a part of a picture of 320 x 240, so small that its changes are no cut."""
    T, side = scene.frames.shape[:2]
    frames = np.full((T, 240, 320, 3), 100, np.uint8)
    frames[:, 60 : 60 + side, 120 : 120 + side] = scene.frames
    return scene._replace(frames=frames, noses=scene.noses + [120, 60])


def preprocessed(scene: Scene, tmp_path, *settings: str):
    config = configuration.load("tiny", [*SETTINGS, *settings])
    write_video(tmp_path / "v.mp4", scene.frames, scene.sound)
    return tools.build(config)(tmp_path / "v.mp4")


def share_on(scene: Scene, bundle, who: int, frames: range | None = None) -> float:
    """Share of these frames (None: all) on which the bundle has a box that holds the tip of a person's nose."""
    on = np.zeros(len(scene.frames), bool)
    for index, (left, top, right, bottom) in zip(frame_numbers(bundle), bundle.boxes, strict=True):
        x, y = scene.noses[index, who]
        on[index] = left < x < right and top < y < bottom
    return float(on[frames or range(len(on))].mean())


def frame_numbers(bundle) -> list[int]:
    return np.round(bundle.times * 25).astype(int).tolist()


@held_by(
    Case("F1", "a face 40 pixels wide", "followed on every frame", lambda: in_a_room(person(size=100))),
    Case("F1", "black and white", "followed on every frame", lambda: changed(person(), grey)),
    Case(
        "F1",
        "a cartoon that the detector takes for a face",
        "followed on every frame",
        lambda: changed(person(), cartoon),
    ),
    Case(
        "F2", "a hand before the mouth for a second", "followed on every frame", lambda: changed(person(), hand, 25, 50)
    ),
    Case(
        "F2",
        "a head turned away for 0.4 s",
        "followed on every frame",
        lambda: in_a_room(changed(person(size=128), turned, 30, 40)),
    ),
    Case(
        "F3",
        "the light goes on within a shot",
        "no cut: followed on every frame",
        lambda: changed(person(), brighter, 40),
    ),
)
def test_one_person_is_followed_throughout(case, tmp_path):
    scene = case.given()
    bundle = preprocessed(scene, tmp_path)
    assert share_on(scene, bundle, 0) == 1
    assert bundle.notes == ""


@held_by(
    Case(
        "F2",
        "a head turned away for a second",
        "the longer part is followed, the other is noted",
        (
            lambda: in_a_room(changed(person(size=128), turned, 20, 45)),
            0,
            range(45, 75),
            "a face is also seen at 0.00 to 0.80 s",
        ),
    ),
    Case(
        "F4",
        "a face that leaves and returns",
        "the longer stay is followed, the other is noted",
        (lambda: in_a_room(wall(person(size=128), 40, 55)), 0, range(40), "a face is also seen at 2.20 to 3.00 s"),
    ),
    Case(
        "F4",
        "a face that comes late",
        "followed from its first frame on",
        (lambda: in_a_room(wall(person(size=128), 0, 20)), 0, range(20, 75), None),
    ),
    Case(
        "F3",
        "a cut to another person",
        "the longer shot is followed, the cut is noted",
        (lambda: shots(person(1, 30), person(4, 45)), 1, range(30, 75), "shot cuts at 1.20 s; one shot was followed"),
    ),
)
def test_who_is_seen_for_a_part_is_followed_there_and_the_notes_say_so(case, tmp_path):
    make, who, expected, note = case.given
    scene = make()
    bundle = preprocessed(scene, tmp_path)
    followed = frame_numbers(bundle)
    assert len(set(followed) ^ set(expected)) <= 2
    assert share_on(scene, bundle, who, expected) >= 0.97
    notes = bundle.notes.split("\n")
    assert notes[0] == f"track: {len(followed)} of 75 frames show the main face"
    assert note is None or any(line.startswith(note) for line in notes)


LARGE, SMALL = 0, 1


@held_by(
    Case("F5", "two faces, the larger speaks", "the larger is followed", (LARGE, [], LARGE, "the larger was")),
    Case("F5", "two faces, the smaller speaks", "the larger is followed", (SMALL, [], LARGE, "the larger was")),
    Case(
        "F5",
        "two faces, the larger speaks, main_face=speaker",
        "the speaker is followed",
        (LARGE, ["main_face=speaker"], LARGE, "the one that speaks"),
    ),
    Case(
        "F5",
        "two faces, the smaller speaks, main_face=speaker",
        "the speaker is followed",
        (SMALL, ["main_face=speaker"], SMALL, "the one that speaks"),
    ),
    Case(
        "F5",
        "main_face=speaker where sync is off",
        "sync is measured for the choice alone",
        (SMALL, ["main_face=speaker", "sync=off"], SMALL, "the one that speaks"),
    ),
    Case(
        "F5",
        "main_face=speaker without sound",
        "the larger is followed, and why",
        (None, ["main_face=speaker"], LARGE, "as there is no sound, the larger"),
    ),
)
def test_of_two_faces_the_right_one_is_followed(case, tmp_path):
    speaker, settings, expected, how = case.given
    people = person(1, 100), person(2, 100, 144)
    scene = beside(*people, None if speaker is None else people[speaker].sound)
    bundle = preprocessed(scene, tmp_path, *settings)
    assert share_on(scene, bundle, expected) == 1
    assert share_on(scene, bundle, 1 - expected) == 0
    assert bundle.notes.startswith(f"2 faces; {how}")


@held_by(
    Case(
        "F6",
        "a face upside down that the detector does not find",
        "no_face, with what to do",
        lambda frame: frame[::-1],
    ),
    Case("F6", "a head turned away all the time", "no_face, with what to do", turned),
)
def test_a_face_that_is_not_found_is_no_face(case, tmp_path):
    with pytest.raises(CropError, match="lower face_threshold") as fault:
        preprocessed(changed(person(4, frames=50), case.given), tmp_path)
    assert fault.value.status == "no_face"
