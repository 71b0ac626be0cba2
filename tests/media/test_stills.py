"""Still pictures: as people see them, within limits, and what is none says so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visavox.media import MediaError, is_image, read_image

PICTURE = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise
    Image.fromarray(PICTURE).save(tmp_path / "b.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "b.png"), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_colour_becomes_rgb(mode: str, tmp_path: Path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(PICTURE).convert(mode).save(path)
    found = read_image(path)
    assert found.shape == (40, 60, 3) and found.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no picture" * 50, "not_media"), (None, "truncated")], ids=str
)
def test_what_is_no_picture_says_so(content: bytes | None, reason: str, tmp_path: Path):
    path = tmp_path / "a.png"
    if content is None:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(path)
        content = path.read_bytes()[:3000]
    path.write_bytes(content)
    with pytest.raises(MediaError) as error:
        read_image(path)
    assert error.value.reason == reason


def test_a_bomb_is_refused_by_its_header(tmp_path: Path):
    Image.new("1", (19_000, 19_000)).save(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match="limit"):
        read_image(tmp_path / "bomb.png")
    with pytest.raises(MediaError, match="regular"):
        read_image(tmp_path)


def test_pictures_are_known_by_their_names():
    assert is_image("A.JPG") and is_image("b.webp") and not is_image("c.mp4") and not is_image("d.gif")
