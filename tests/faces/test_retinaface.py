"""RetinaFace: the published code's numbers on seeded weights, anchors, and boxes in the frames' own pixels."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from visavox.faces.retinaface import BGR_MEAN, IMAGENET_RGB_SQUARE, RetinaFace, RetinaFaceDetector, load_published
from visavox.faces.retinaface.anchors import anchors, decode_boxes, decode_landmarks
from visavox.faces.retinaface.detector import suppress
from visavox.faces.retinaface.network import Predictions, fold

NETWORKS = ("mobilenet0.25", "resnet50")
GAIN = {"mobilenet0.25": 1.0, "resnet50": 0.6}  # keeps outputs near 1 and the input's part in them large


def seeded_weights(network: str) -> dict[str, torch.Tensor]:
    """Every parameter and batch-norm statistic random, from its own name; RandomState's stream is frozen by NumPy."""
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in RetinaFace(network).state_dict().items()}
    tensors = {}
    for key, shape in shapes.items():
        uniform = np.random.RandomState(zlib.crc32(key.encode())).uniform(-1, 1, shape)
        if key.endswith("num_batches_tracked"):
            values = np.zeros(shape)
        elif key.endswith("running_var"):
            values = 1 + uniform / 2
        elif len(shape) == 4:
            values = uniform * math.sqrt(6 / math.prod(shape[1:]))
        elif key.endswith("weight"):
            values = GAIN[network] * (1 + 0.4 * uniform)
        else:
            values = 0.2 * uniform
        tensors[key] = torch.tensor(values, dtype=torch.float32)
    return tensors


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> dict[str, dict[str, torch.Tensor]]:
    return {network: seeded_weights(network) for network in NETWORKS}


# Printed by the published network classes (biubug6/Pytorch_Retinaface) with seeded_weights loaded: 374 anchors of a
# 75 x 109 input; the last values of anchors 0, 187, 344 and 373 of the second image, and the mean of all magnitudes.
PUBLISHED = {
    "mobilenet0.25": {
        "keys": "100a884cd2d9cc4142a9f85791c0f468ead3fadaa46e1a0b2ba2ef89806ce32e",
        "boxes": (
            [2.00626, -0.32543, 1.10148, -0.31058],
            [-9.10649, -1.77718, 9.62216, -1.85016],
            [2.4464, 5.19259, 12.1268, -5.59091],
            [-1.20309, 3.02702, -1.09779, -1.54788],
        ),
        "logits": ([1.02448, 2.79563], [3.35644, 1.65589], [-8.97214, -2.52498], [2.49341, -1.38581]),
        "landmarks": (
            [0.04274, 0.0477, 0.97377, -0.9352],
            [6.845, 9.51692, -1.50621, 1.99158],
            [-6.31644, -4.26486, -4.10324, 0.02748],
            [-1.48627, -0.84488, -2.2993, 0.93042],
        ),
        "magnitudes": (3.304083, 3.456857, 2.815021),
        "decoded_box_0": [-2.7615, -4.0389, 17.1816, 10.9975],
        "decoded_landmarks_0": [3.3517, 3.3491, 4.8502, 3.3051, 4.233, 1.2393, 4.0684, 4.0763, 5.558, 2.5037],
    },
    "resnet50": {
        "keys": "eb54b880ab291bf8e2244dd94de9d2b9d631c8bd6e64aaec32b5952aa4ccb6a5",
        "boxes": (
            [-0.20289, 0.62081, 0.0829, -0.37973],
            [-1.59693, 0.11632, 0.79841, -1.03615],
            [-0.11769, 0.14064, -0.58733, 0.5532],
            [0.2876, 0.15926, -0.23226, 0.09548],
        ),
        "logits": ([0.43786, 0.11521], [-0.28546, -0.52953], [-0.50885, 0.72866], [-0.00287, -0.01191]),
        "landmarks": (
            [0.28772, -0.37238, 0.1573, -0.46829],
            [1.00656, 0.20769, 1.27534, -0.07135],
            [0.37881, -0.41465, 0.18869, 0.19224],
            [0.25189, -0.20715, -0.10268, 0.27852],
        ),
        "magnitudes": (0.55024, 0.370354, 0.385534),
        "decoded_box_0": [-4.4584, -2.4216, 11.8091, 12.4082],
        "decoded_landmarks_0": [3.9738, 3.2631, 3.5695, 3.6758, 4.162, 4.5242, 4.4604, 3.4042, 4.2517, 3.2507],
    },
}


@pytest.mark.parametrize("network", NETWORKS)
def test_parameter_names_and_shapes_are_the_published_ones(weights, network):
    text = "\n".join(f"{key} {tuple(value.shape)}" for key, value in sorted(weights[network].items()))
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED[network]["keys"]


@pytest.mark.parametrize("folded", [False, True], ids=["as published", "folded"])
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_are_those_of_the_published_code(weights, network, folded):
    model = load_published(network, weights[network])
    if folded:
        model = fold(model)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    images = torch.tensor(np.random.RandomState(0).uniform(-2, 2, (2, 3, 75, 109)), dtype=torch.float32)
    with torch.inference_mode():
        predictions = model(images)
    assert predictions.boxes.shape == (2, 374, 4)
    golden = PUBLISHED[network]
    for name, values, magnitude in zip(Predictions._fields, predictions, golden["magnitudes"]):
        expected = torch.tensor(golden[name])
        found = values[1, [0, 187, 344, 373], -expected.shape[1] :]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert values.abs().mean().item() == pytest.approx(magnitude, abs=1e-4)
    priors = anchors(75, 109)[:1]
    box = decode_boxes(predictions.boxes[1, :1], priors)[0]
    points = decode_landmarks(predictions.landmarks[1, :1], priors)[0].flatten()
    assert box.tolist() == pytest.approx(golden["decoded_box_0"], abs=2e-3)
    assert points.tolist() == pytest.approx(golden["decoded_landmarks_0"], abs=2e-3)


def test_anchors_of_a_small_image():
    found = anchors(16, 24).tolist()
    assert len(found) == (2 * 3 + 1 * 2 + 1 * 1) * 2
    assert found[:3] == [[4, 4, 16, 16], [4, 4, 32, 32], [12, 4, 16, 16]]
    assert found[6] == [4, 12, 16, 16]  # the next row of cells
    assert found[12:15] == [[8, 8, 64, 64], [8, 8, 128, 128], [24, 8, 64, 64]]
    assert found[-2:] == [[16, 16, 256, 256], [16, 16, 512, 512]]
    assert anchors(16, 24) is anchors(16, 24)


def test_decoding_inverts_the_encoding_of_the_training_targets():
    rng = torch.Generator().manual_seed(0)
    priors = anchors(64, 96)
    corner = torch.rand(len(priors), 2, generator=rng) * 60
    boxes = torch.cat([corner, corner + 5 + 50 * torch.rand(len(priors), 2, generator=rng)], dim=1)
    points = torch.rand(len(priors), 5, 2, generator=rng) * 90
    shift = ((boxes[:, :2] + boxes[:, 2:]) / 2 - priors[:, :2]) / (0.1 * priors[:, 2:])
    growth = ((boxes[:, 2:] - boxes[:, :2]) / priors[:, 2:]).log() / 0.2
    encoded_points = (points - priors[:, None, :2]) / (0.1 * priors[:, None, 2:])
    torch.testing.assert_close(decode_boxes(torch.cat([shift, growth], dim=1), priors), boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(decode_landmarks(encoded_points.flatten(1), priors), points, atol=1e-3, rtol=0)


class Bright(nn.Module):
    """Stands in for the network: certain of the anchor of 64 pixels wherever a cell of 16 is white, of no other."""

    def __init__(self, white: float) -> None:
        super().__init__()
        self.white = white
        self.seen = None

    def forward(self, images: torch.Tensor) -> Predictions:
        self.seen = images
        sizes = anchors(*images.shape[-2:])[:, 2]
        brightness = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 16, ceil_mode=True)
        face = torch.full((len(images), len(sizes)), -9.0)
        face[:, sizes == 64] = torch.where(brightness.flatten(1) > 0.9 * self.white, 9.0, -9.0)
        zeros = torch.zeros(len(images), len(sizes), 10)
        return Predictions(zeros[..., :4], torch.stack([-face, face], dim=-1), zeros)


def bright_detector(weights, preprocessing=BGR_MEAN, **settings) -> RetinaFaceDetector:
    detector = RetinaFaceDetector("mobilenet0.25", weights["mobilenet0.25"], preprocessing=preprocessing, **settings)
    white = (255 - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    detector.network = Bright(float(white.mean()))
    return detector


@pytest.mark.parametrize("preprocessing", [BGR_MEAN, IMAGENET_RGB_SQUARE], ids=["plain", "padded"])
@pytest.mark.parametrize(
    ("height", "width", "max_size"), [(203, 317, 640), (601, 899, 320), (97, 97, 97), (161, 97, 640), (640, 211, 256)]
)
def test_boxes_are_in_source_pixels_and_follow_the_picture(weights, preprocessing, height, width, max_size):
    detector = bright_detector(weights, preprocessing, max_size=max_size, nms_threshold=0.05)
    longer = max(height, width)
    scale = (max_size if preprocessing.pad_square else min(max(longer, 320), max_size)) / longer
    side = math.ceil(31 / scale)  # a white square that covers at least one whole cell of 16 pixels
    centres = []
    for move in (0, round(16 / scale)):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[20 : 20 + side, 10 + move : 10 + move + side] = 255
        found = detector.detect([frame])[0]
        assert len(found.boxes) >= 1
        box, points = found.boxes[0], found.landmarks[0]
        assert (box[2:] - box[:2]).tolist() == pytest.approx([64 / scale] * 2, rel=0.01)
        np.testing.assert_allclose(points, np.tile((box[:2] + box[2:]) / 2, (5, 1)), atol=1e-3)
        centres.append((box[:2] + box[2:]) / 2)
        assert np.abs(centres[-1] - [10 + move + side / 2, 20 + side / 2]).max() <= 9 / scale
    assert centres[1] - centres[0] == pytest.approx([16 / scale, 0], abs=0.02 * 16 / scale)


def test_bgr_mean_input_is_the_frame_reversed_and_centred(weights):
    detector = bright_detector(weights, replace(BGR_MEAN, min_size=1))
    detector.detect([np.full((10, 12, 3), (200, 100, 50), np.uint8)])
    assert detector.network.seen.shape == (1, 3, 10, 12)
    assert detector.network.seen[0, :, 5, 5].tolist() == [50 - 104, 100 - 117, 200 - 123]


def test_imagenet_input_is_rgb_on_a_centred_square_of_the_mean_colour(weights):
    detector = bright_detector(weights, IMAGENET_RGB_SQUARE, max_size=64)
    detector.detect([np.full((16, 32, 3), (255, 0, 0), np.uint8)])
    seen = detector.network.seen
    assert seen.shape == (1, 3, 64, 64)
    red = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(seen[0, :, 16:48], red[:, None, None].expand(3, 32, 64))
    assert seen[0, :, :16].abs().max() == 0 == seen[0, :, 48:].abs().max()


def test_each_registered_network_states_its_preprocessing(weights):
    assert RetinaFaceDetector("mobilenet0.25", weights["mobilenet0.25"]).preprocessing is BGR_MEAN
    detector = RetinaFaceDetector("resnet50", weights["resnet50"])
    assert detector.preprocessing is IMAGENET_RGB_SQUARE
    assert (detector.name, detector.landmark_source) == ("retinaface_resnet50", "retinaface")


def test_of_overlapping_boxes_the_most_certain_is_kept(weights):
    detector = RetinaFaceDetector("mobilenet0.25", weights["mobilenet0.25"], threshold=0.6, max_size=64)
    offsets = torch.zeros(2, len(anchors(64, 64)), 4)
    face = torch.full(offsets.shape[:2], -5.0)
    face[0, 0], face[0, 2], face[0, 14] = 1.0, 3.0, 2.0  # anchors of 16 pixels at x = 4, 12 and 60
    offsets[0, 2, 0] = -3.0  # moved by -3 * 0.1 * 16 pixels: overlaps the first at IoU 0.67
    face[1, 4], face[1, 6] = 0.39, 0.42  # P = 0.596 and 0.603
    logits = torch.stack([torch.zeros_like(face), face], dim=-1)
    detector.network = lambda images: Predictions(offsets, logits, torch.zeros(*face.shape, 10))
    first, second = detector.detect([np.zeros((64, 64, 3), np.uint8)] * 2)
    assert first.boxes.tolist() == [pytest.approx([-0.8, -4, 15.2, 12]), pytest.approx([52, -4, 68, 12])]
    assert first.scores.tolist() == pytest.approx([1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-2))])
    assert first.landmarks[:, 0].tolist() == [[12, 4], [60, 4]]  # those of the kept anchors, unmoved
    assert second.boxes.tolist() == [pytest.approx([20, -4, 36, 12])]
    assert second.boxes.dtype == second.scores.dtype == second.landmarks.dtype == np.float32


def test_batches_give_what_single_frames_give(weights):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 5, 7, 3), dtype=np.uint8)
    frames = [np.kron(frame, np.ones((16, 16, 1), np.uint8)) for frame in coarse]
    frames[5] = frames[5][:71, :83]  # another size in the middle
    unpadded = replace(IMAGENET_RGB_SQUARE, pad_square=False)  # keeps seeded weights' outputs near 1
    detector = RetinaFaceDetector(
        "mobilenet0.25", weights["mobilenet0.25"], threshold=0.9, max_size=96, batch_size=3, preprocessing=unpadded
    )
    together = detector.detect(frames)
    assert len(together) == 8 and all(len(found.scores) > 3 for found in together)
    for found, frame in zip(together, frames):
        (alone,) = detector.detect([frame])
        assert alone.scores.shape == found.scores.shape
        for batched, single in zip(found[:3], alone[:3]):
            np.testing.assert_allclose(batched, single, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("longer", "max_size", "seen"),
    [(160, 640, 320), (320, 640, 320), (500, 640, 500), (900, 640, 640), (160, 200, 200)],
)
def test_the_longer_side_lies_between_min_size_and_max_size(weights, longer, max_size, seen):
    detector = bright_detector(weights, max_size=max_size)
    detector.detect([np.zeros((longer, longer // 2, 3), np.uint8)])
    assert detector.network.seen.shape == (1, 3, seen, seen // 2)


def test_no_frames_and_no_faces(weights):
    detector = bright_detector(weights)
    assert detector.detect([]) == []
    (nothing,) = detector.detect([np.zeros((33, 1, 3), np.uint8)])
    assert nothing.boxes.shape == (0, 4) and nothing.scores.shape == (0,) and nothing.landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize("frame", [np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)])
def test_a_frame_of_another_kind_is_refused(weights, frame):
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 RGB"):
        bright_detector(weights).detect([frame])


def test_wrappings_of_published_files_are_taken_off(weights):
    plain = weights["mobilenet0.25"]
    wrapped = {"state_dict": {f"module.{key}": value for key, value in plain.items() if "num_batches" not in key}}
    loaded = load_published("mobilenet0.25", wrapped).state_dict()
    assert loaded.keys() == plain.keys()
    assert all(torch.equal(loaded[key], plain[key]) for key in plain)


def test_weights_that_do_not_fit_are_named(weights):
    plain = weights["mobilenet0.25"]
    spoiled = {key: value for key, value in plain.items() if key != "fpn.merge1.0.weight"}
    spoiled["fpn.merge3.0.weight"] = torch.zeros(1)
    spoiled["ClassHead.0.conv1x1.bias"] = torch.zeros(6)
    with pytest.raises(ValueError) as error:
        load_published("mobilenet0.25", spoiled)
    assert "missing 1: fpn.merge1.0.weight" in str(error.value)
    assert "unexpected 1: fpn.merge3.0.weight" in str(error.value)
    assert "ClassHead.0.conv1x1.bias (6,) instead of (4,)" in str(error.value)
    with pytest.raises(ValueError, match="and .* more.*pass network='mobilenet0.25'"):
        load_published("resnet50", plain)
    with pytest.raises(ValueError, match="neither published body"):
        load_published("resnet50", {})
    with pytest.raises(ValueError, match="expected one of mobilenet0.25, resnet50"):
        load_published("resnet18", plain)


DATA = os.environ.get("VISAVOX_TEST_DATA")


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="VISAVOX_TEST_DATA is not set")
@pytest.mark.parametrize(
    "clip", ["fsgan_conan_obrien.mp4", "latentsync_demo1.mp4", "pcavs_00015.mp4", "grid_bbaf2n.mpg", "vrt_2.mp4"]
)
def test_trained_weights_find_the_speaker_of_real_clips(clip):
    av = pytest.importorskip("av")
    path = Path(DATA) / "weights" / "retinaface_mobilenet0.25.pth"
    state_dict = torch.load(path, map_location="cpu", weights_only=True)
    with av.open(str(Path(DATA) / "clips" / "real" / clip)) as container:
        decoded = (frame for number, frame in enumerate(container.decode(video=0)) if number % 9 == 0)
        frames = [frame.to_ndarray(format="rgb24") for frame, _ in zip(decoded, range(4))]
    detector = RetinaFaceDetector("mobilenet0.25", state_dict)
    smaller = RetinaFaceDetector("mobilenet0.25", state_dict, max_size=320).detect(frames)
    for frame, found, coarse in zip(frames, detector.detect(frames), smaller):
        assert len(found.boxes) == len(coarse.boxes) == 1
        x0, y0, x1, y1 = found.boxes[0]
        eye, other_eye, nose, mouth, other_mouth = found.landmarks[0]
        assert x0 < eye[0] < other_eye[0] < x1 and mouth[0] < other_mouth[0]
        assert y0 < max(eye[1], other_eye[1]) < nose[1] < min(mouth[1], other_mouth[1]) < y1
        assert iou(found.boxes[0], coarse.boxes[0]) > 0.8
        (alone,) = detector.detect([frame])
        for batched, single in zip(found[:3], alone[:3]):
            np.testing.assert_allclose(batched, single, atol=0.01)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


@pytest.mark.parametrize("threshold", [0.1, 0.4, 0.7])
def test_suppression_is_torchvisions(threshold):
    from torchvision.ops import nms

    rng = np.random.default_rng(3)
    corners = rng.uniform(-20, 200, (400, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (400, 2)).astype(np.float32)], axis=1)
    scores = rng.permutation(400).astype(np.float32) / 400 + 0.001
    expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).tolist()
    assert suppress(boxes, scores, threshold).tolist() == expected
    assert suppress(boxes[:0], scores[:0], threshold).shape == (0,)


def test_a_worker_with_mobilenet_does_without_torchvision():
    code = "import sys, crop, retinaface; from visavox import config; retinaface.RetinaFace('mobilenet0.25')"
    code += "; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
