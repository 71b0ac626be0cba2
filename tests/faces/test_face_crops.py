"""Crops of a face track: the square, its pixels, landmarks in it, and where crops are kept."""

import weakref

import cv2
import numpy as np
import pytest
from fake_detector import FACE, LANDMARKS, FakeDetector, H, W, follow, numbered

from visavox.faces import (
    CropStore,
    cropping,
    cut,
    to_crop,
    track_faces,
    tracking,
)
from visavox.faces.crop_store import decode_jpeg, encode_jpeg
from visavox.faces.cropping import crop_square


def test_landmarks_are_given_in_crop_pixels():
    track, _ = follow(lambda index: [FACE + 0.2 * index], 100, size=64)
    square = crop_square(track.boxes.astype(float), 0.4)
    source = track.boxes[:, None, :2] + (track.boxes[:, None, 2:] - track.boxes[:, None, :2]) * LANDMARKS
    back = track.landmarks * square[:, None, 2:] / 64 + square[:, None, :2]
    np.testing.assert_allclose(back, source, atol=1e-2)
    eyes, mouth = track.landmarks[:, :2], track.landmarks[:, 3:]
    assert (track.landmarks > 0).all() and (track.landmarks < 64).all()
    assert eyes[..., 1].max() < mouth[..., 1].min()


def test_landmarks_lie_on_what_they_marked():
    frame = np.zeros((H, W, 3), np.uint8)
    frame[120:124, 130:134] = 255  # centred on (132, 122)
    box = np.array([[100.0, 80, 160, 160]])
    for size in (32, 64, 224):
        crop = cut(frame[None], box, size)[0, ..., 0].astype(float)
        y, x = (np.arange(size) + 0.5 for _ in range(2))
        centre = np.array([(crop.sum(0) * x).sum(), (crop.sum(1) * y).sum()]) / crop.sum()
        np.testing.assert_allclose(centre, to_crop(np.array([[[132.0, 122]]]), box, size, 0.4)[0, 0], atol=0.1)


def test_the_square_is_syncnets():
    # run_pipeline: rows cy - bs to cy + bs (1 + 2 cs), columns cx - bs (1 + cs) to cx + bs (1 + cs), bs = max(w, h) / 2
    left, top, side = crop_square(FACE, 0.4)
    assert (left, top, side) == pytest.approx((130 - 40 * 1.4, 120 - 40, 40 * 2.8))
    assert top + side == pytest.approx(120 + 40 * 1.8)


@pytest.mark.parametrize("size", [28, 56, 112, 224, 100])
def test_crops_of_a_gradient_hold_the_expected_values(size):
    x, y = np.meshgrid(np.arange(W) + 0.5, np.arange(H) + 0.5)  # pixel centres
    frame = np.stack([x * 0.75, y, np.full_like(x, 7)], -1).astype(np.uint8)
    crop = cut(frame[None], FACE[None], size)[0].astype(float)
    left, top, side = crop_square(FACE, 0.4)
    centres = (np.arange(size) + 0.5) * side / size
    np.testing.assert_allclose(crop[..., 0], np.tile((left + centres) * 0.75 - 0.5, (size, 1)), atol=1.1)
    np.testing.assert_allclose(crop[..., 1], np.tile(top + centres[:, None] - 0.5, (1, size)), atol=1.1)
    assert (crop[..., 2] == 7).all()


def test_a_whole_pixel_square_of_the_asked_size_is_the_source_itself():
    frame = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)
    crop = cut(frame[None], np.array([[100.0, 80, 160, 180]]), 140)[0]  # side 1.4 * 100
    np.testing.assert_array_equal(crop, frame[80:220, 60:200])


def test_outside_the_picture_is_grey_110():
    frame = np.full((1, H, W, 3), 200, np.uint8)
    crop = cut(frame, np.array([[-40.0, -50, 40, 50]]), 140)[0]
    assert (crop[:50] == cropping.PAD_VALUE).all() and (crop[:, :70] == cropping.PAD_VALUE).all()
    assert (crop[51:, 71:] == 200).all()
    assert cropping.PAD_VALUE == 110


def test_the_crops_of_a_track_are_the_cuts_of_its_boxes():
    rng = np.random.default_rng(1)
    still = cv2.GaussianBlur(rng.integers(0, 256, (H, W, 3), dtype=np.uint8), (0, 0), 3)
    frames = np.stack([np.roll(still, index, axis=1) for index in range(80)])
    for index, frame in enumerate(frames):
        frame[0, 0] = 0, index, 0
    detector = FakeDetector(lambda index: [FACE + np.array([1, 0, 1, 0]) * index])
    track = track_faces(frames, detector, step=16, size=48, expected_frames=80)
    np.testing.assert_array_equal(track.crops[:], cut(frames, track.boxes, 48))


def test_result_does_not_depend_on_the_source_or_the_batch(monkeypatch):
    def truth(index):
        return [FACE + 20 * np.sin(index / 5), FACE - 60] if index % 50 > 3 else []

    one, _ = follow(truth, 180)
    monkeypatch.setattr(tracking, "BATCH", 3)
    frames = [numbered(index) for index in range(180)]
    two = track_faces(frames, FakeDetector(truth), step=64, size=32, expected_frames=100)
    for name in ("boxes", "landmarks", "det_score", "frame_index"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_array_equal(one.crops[:], two.crops[:])


@pytest.mark.parametrize("strobe", [1, 9, 400], ids=["a jump on each frame", "now and then", "never"])
@pytest.mark.parametrize("step", [1, 10, 64, 1000])
def test_few_frames_are_alive_at_once(step, strobe):
    class Frame(np.ndarray):
        """An array that can be watched."""

    alive, most = weakref.WeakSet(), 0

    def watched():
        nonlocal most
        for index in range(400):
            frame = numbered(index, 60 + 40 * (index // strobe % 4)).view(Frame)
            frame.__class__.__hash__ = object.__hash__
            frame.__class__.__eq__ = object.__eq__
            alive.add(frame)
            yield frame
            del frame
            most = max(most, len(alive))

    track_faces(watched(), FakeDetector(lambda index: [FACE] if index % 70 > 9 else []), step=step, size=16)
    assert 1 < most <= tracking.CHUNK + tracking.BRIDGE + tracking.SMOOTH // 2 + 2


def test_large_frames_wait_in_smaller_chunks(monkeypatch):
    monkeypatch.setattr(tracking, "CHUNK_BYTES", 10 * H * W * 3)
    _, detector = follow(lambda index: [FACE], 101)
    assert sorted(detector.seen) == list(range(0, 101, 10))


def test_the_store_keeps_raw_crops_or_jpeg_by_what_the_caller_expects():
    assert not follow(lambda index: [FACE], 20, expected_frames=20)[0].crops.compressed
    limit = tracking.RAW_CROP_BYTES // (32 * 32 * 3)
    assert not follow(lambda index: [FACE], 20, expected_frames=limit)[0].crops.compressed
    assert follow(lambda index: [FACE], 20, expected_frames=limit + 1)[0].crops.compressed
    assert follow(lambda index: [FACE], 20, expected_frames=None)[0].crops.compressed


@pytest.mark.parametrize("compressed", [False, True])
def test_the_store_is_a_sequence_of_crops(compressed):
    rng = np.random.default_rng(2)
    crops = [cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (0, 0), 2) for _ in range(5)]
    store = CropStore(40, compressed)
    for crop in crops:
        store.append(crop)
    close = 10 if compressed else 0
    assert len(store) == 5
    np.testing.assert_allclose(store[2].astype(int), crops[2], atol=close)
    np.testing.assert_allclose(store[-1].astype(int), crops[-1], atol=close)
    np.testing.assert_allclose(store[1:4].astype(int), crops[1:4], atol=close)
    np.testing.assert_allclose(store[np.array([4, 0, 0])].astype(int), [crops[4], crops[0], crops[0]], atol=close)
    assert store[5:].shape == (0, 40, 40, 3)
    assert len(list(store)) == 5
    images, offsets = store.jpegs()
    assert images.dtype == np.uint8 and offsets.dtype == np.int64 and len(offsets) == 6 and offsets[-1] == len(images)
    third = images[offsets[3] : offsets[4]]
    assert third.tobytes() == store.jpeg(3) == encode_jpeg(crops[3])
    np.testing.assert_allclose(decode_jpeg(third).astype(int), crops[3], atol=10)
    assert isinstance(images, np.memmap) == compressed
    with pytest.raises(IndexError):
        store[5]


def test_an_empty_store_has_no_images():
    for compressed in (False, True):
        images, offsets = CropStore(40, compressed).jpegs()
        assert len(images) == 0 and offsets.tolist() == [0]


def test_settings_that_make_no_sense_are_refused():
    for setting in ({"step": 0}, {"size": 0}, {"smooth": 12}):
        with pytest.raises(ValueError, match="positive"):
            follow(lambda index: [FACE], 3, **setting)
