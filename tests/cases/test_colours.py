"""Colours of every coding: within three levels of what the standards' formulas say, high dynamic range included."""

from __future__ import annotations

import av
import numpy as np

from tests.cases.cases import Case, held_by
from tests.cases.patches import PATCHES, X264, X265_FINE, hdr_of, patches_read, planes_of, record_patches

LEVELS = "colours within 3 of 255 levels of the formula"


def coloured(number: str, title: str, name: str, codec: str, pixels: str, **how) -> Case:
    return Case(number, title, LEVELS, (name, codec, pixels, how))


@held_by(
    coloured("M14", "4:2:0, BT.601, limited range", "v.mp4", "libx264", "yuv420p", options=X264),
    coloured("M14", "4:2:0, BT.709, limited range", "v.mp4", "libx264", "yuv420p", matrix="bt709", options=X264),
    coloured("M14", "4:2:0, BT.601, full range", "v.mp4", "libx264", "yuv420p", full=True, options=X264),
    coloured(
        "M14", "4:2:0, BT.709, full range", "v.mkv", "libx264", "yuv420p", matrix="bt709", full=True, options=X264
    ),
    coloured("M14", "4:2:2", "v.mp4", "libx264", "yuv422p", matrix="bt709", options=X264),
    coloured("M14", "4:4:4", "v.mp4", "libx264", "yuv444p", matrix="bt709", options=X264),
    coloured("M14", "4:4:4 in FFV1", "v.mkv", "ffv1", "yuv444p"),
    coloured("M14", "alpha in FFV1", "v.mkv", "ffv1", "yuva420p"),
    coloured(
        "M14", "alpha in ProRes 4444", "v.mov", "prores_ks", "yuva444p10le", matrix="bt709", options={"profile": "4444"}
    ),
    coloured("M14", "MJPEG of full range", "v.avi", "mjpeg", "yuvj420p", full=True, options={"qmin": "1", "qmax": "1"}),
    coloured("M14", "ProRes 4:2:2", "v.mov", "prores", "yuv422p10le", matrix="bt709"),
    coloured(
        "M14", "VP9", "v.webm", "libvpx-vp9", "yuv420p", matrix="bt709", options={"crf": "4", "b": "0", "cpu-used": "8"}
    ),
    coloured("M14", "AV1", "v.mp4", "libsvtav1", "yuv420p", matrix="bt709", options={"crf": "4", "preset": "12"}),
    coloured("M15", "10 bits in H.264", "v.mp4", "libx264", "yuv420p10le", matrix="bt709", options=X264),
    coloured("M15", "10 bits in HEVC", "v.mp4", "libx265", "yuv420p10le", matrix="bt709", options=X265_FINE),
    coloured("M15", "12 bits 4:4:4 in HEVC", "v.mkv", "libx265", "yuv444p12le", matrix="bt709", options=X265_FINE),
    coloured(
        "M15", "10 bits of BT.2020 without HDR", "v.mp4", "libx265", "yuv420p10le", matrix="bt2020", options=X265_FINE
    ),
)
def test_colours(case, tmp_path):
    """Planes are written by the formulas of the standards; what is read is compared with what went in."""
    name, codec, pixels, how = case.given
    bits = av.VideoFrame(16, 16, pixels).format.components[0].bits
    values = planes_of(PATCHES / 255, how.get("matrix", "bt601"), how.get("full", False), bits)
    if "a4" in pixels:
        values = np.concatenate([values, np.full((len(values), 1), 2**bits // 2)], 1)  # half transparent
    got, notes = patches_read(record_patches(tmp_path / name, codec, pixels, values, **how))
    assert notes == []
    assert np.abs(got - PATCHES).max() <= 3


HDR = "a picture of standard range comes back within 3 levels; brighter light is compressed, not cut; the note says so"


@held_by(
    Case("M15", "HDR in PQ, HEVC", HDR, ("PQ", 16, "libx265", X265_FINE)),
    Case("M15", "HDR in HLG, HEVC", HDR, ("HLG", 18, "libx265", X265_FINE)),
    Case("M15", "HDR in PQ, H.264", HDR, ("PQ", 16, "libx264", X264)),
)
def test_high_dynamic_range(case, tmp_path):
    transfer, tag, codec, options = case.given
    skin = np.array([[150, 110, 90], [90, 60, 45], [60, 60, 60], [120, 120, 120], [170, 130, 110], [40, 70, 60]])
    values = planes_of(hdr_of(skin, transfer), "bt2020", False, 10)
    how = {"matrix": "bt2020", "transfer": tag, "primaries": 9, "options": options}
    got, notes = patches_read(record_patches(tmp_path / "v.mp4", codec, "yuv420p10le", values, **how))
    assert np.abs(got - skin).max() <= 3
    assert notes == [f"hdr: {transfer} tone-mapped to standard dynamic range (ITU-R BT.2390)"]
    light = np.array([255, 285, 315, 345])[:, None] * np.ones(3)  # 203, 265, 337 and 420 cd/m2
    values = planes_of(hdr_of(light, transfer), "bt2020", False, 10)
    got, _ = patches_read(record_patches(tmp_path / "w.mp4", codec, "yuv420p10le", values, **how))
    assert np.all(np.diff(got[:, 1]) >= 2) and 215 < got[0, 1] < 240 and got[-1, 1] <= 255
    assert np.ptp(got, axis=1).max() <= 3  # grey stays grey
