"""Made fakes: each changes what it says, where it says, by a stated size, and nothing else; the same seed gives the same fake."""

import json
from dataclasses import replace

import numpy as np
import pytest

from visavox.bundle import Bundle, BundleError, kept_frames
from visavox.config.fakes import BOTH, KINDS, NEEDS_WORLD, PICTURE, SOUND, weights
from visavox.faces.cropping import cut, to_crop
from visavox.features.audio import mel_3cs
from visavox.features.sync import correlation_sync
from visavox.media.recode import CODECS, recode_frames, recode_sound, resample
from visavox.preprocessing.provenance import prep_hash
from visavox.pseudofakes import dense, make, vocoders
from visavox.pseudofakes.footage import SPARE, Crops, put_together, take
from visavox.pseudofakes.forgery import gates
from visavox.pseudofakes.hull import face_boxes, outlines, steady
from visavox.pseudofakes.make import NothingChanged, draw_kind, forge, forge_one, untouched
from visavox.pseudofakes.picture import shift_blend, splice_picture
from visavox.pseudofakes.road import travel
from visavox.pseudofakes.sheet import sheet
from visavox.pseudofakes.vocoders import TOOLS
from visavox.pseudofakes.voice import splice_sound
from visavox.synthetic.clips import Clip, render

pytestmark = pytest.mark.usefixtures("one_thread")
RATE, FPS, SIZE = 16000, 25, 96
LEAST_CHANGE = {"picture": 0.7, "sound": 0.01}
"""Grey levels of a face's pixels and share of the sound's RMS that a forged stretch differs by, at least. The weakest
are parts of a voice that hold little above the telephone's band."""


def measure(track: Crops, sound: np.ndarray):
    return correlation_sync(track.crops, track.landmarks, sound, RATE)


def bundle_of(clip: Clip, config, seed: int) -> Bundle:
    """A bundle of a drawn clip, its face where the drawing put it."""
    config = config.model_copy(update={"frame_size": SIZE})
    low, high = clip.landmarks.min(1), clip.landmarks.max(1)
    grow = (high - low).max(1, keepdims=True) * 0.9
    middle = (low + high) / 2
    boxes = np.concatenate([middle - grow, middle + grow], 1).astype(np.float32)  # (T, 4)
    crops = cut(clip.frames, boxes, SIZE, config.face_margin)
    T = len(crops)
    nothing = np.full(2 * config.vshift + 1, np.float32(1))
    bare = Bundle.blank(config)
    first = replace(
        bare,
        faces=crops[kept_frames(T, config.bundle_faces)],
        boxes=boxes,
        landmarks=to_crop(clip.landmarks, boxes, SIZE, config.face_margin).astype(np.float32),
        det_score=np.full(T, 0.99, np.float32),
        times=(np.arange(T) / FPS).astype(np.float32),
        audio=clip.audio,
        mel_3cs=mel_3cs(clip.audio, RATE, config.freq_num),
        mdist=nothing,
        latency=np.asarray(np.float32(0)),
        conf=np.asarray(np.float32(0)),
        status="ok",
        track_offsets=np.zeros(T + 1, np.int64),
        prep_hash=prep_hash(config),
        source_sha256=f"{seed:064x}",
    )
    from visavox.faces.crop_store import CropStore

    store = CropStore(SIZE)
    for crop in crops:
        store.append(crop)
    track, offsets = store.jpegs()
    return replace(first, track=track, track_offsets=offsets)


@pytest.fixture(scope="module")
def clip(tiny_config) -> Bundle:
    """3.2 s of a drawn face, 80 frames."""
    return bundle_of(render(3, 1, 3.2, 160), tiny_config, 3)


@pytest.fixture(scope="module")
def other(tiny_config) -> Bundle:
    return bundle_of(render(8, 2, 2.4, 160), tiny_config, 8)


def pictures(bundle: Bundle) -> np.ndarray:
    return np.stack([bundle.frame(t) for t in range(bundle.track_frames)])


@pytest.mark.parametrize("kind", ["sbv", "region", "shift_blend"])
def test_outlines_of_68_landmarks(kind, clip, monkeypatch: pytest.MonkeyPatch):
    """Another mask than that of five landmarks, inside the face, the same each time."""
    if not dense.is_installed():
        pytest.skip("the extra `landmarks` is not installed")
    five, many, again = (forge(kind, clip, None, seed=[1], road=False, landmarks=n) for n in (5, 68, 68))
    assert np.array_equal(many.masks, again.masks) and not np.array_equal(many.masks, five.masks)
    footage = take(clip)
    where = many.masks.max(0) > 0
    x0, y0, x1, y1 = face_boxes(footage).mean(0)
    assert where.any() and not where[:, : int(x0) - 3].any() and not where[int(y1) + 4 :].any()
    assert [segment[:2] for segment in many.segments] == [segment[:2] for segment in five.segments]


def test_without_the_extra_68_landmarks_are_refused(clip, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dense, "is_installed", lambda: False)
    dense._predictor.cache_clear()
    with pytest.raises(BundleError, match=r"visavox\[landmarks\]"):
        forge("sbv", clip, None, seed=[1], landmarks=68)


@pytest.mark.data
def test_68_landmarks_agree_with_retinaface_s_five(data_dir, tiny_config, monkeypatch: pytest.MonkeyPatch):
    """Eyes, nose and corners of the mouth on frames of real people, in distances between the eyes."""
    if not dense.is_installed():
        pytest.skip("the extra `landmarks` is not installed")
    from visavox.preprocessing import tools

    monkeypatch.setenv("VISAVOX_WEIGHTS", str(data_dir / "weights"))
    how = {"face_detector": "retinaface_mobilenet0.25", "frame_size": 160, "max_clip_len": 1.2, "store_track": True}
    preprocess = tools.build(tiny_config.model_copy(update=how), 1)
    off = []
    for name in ("vrt_5.mp4", "pcavs_00015.mp4", "grid_bbaf2n.mpg"):
        footage = take(preprocess(data_dir / "clips/real" / name))
        points = dense.landmarks(footage.frames, face_boxes(footage))
        seen = np.stack(
            [points[:, 36:42].mean(1), points[:, 42:48].mean(1), *np.moveaxis(points[:, [30, 48, 54]], 1, 0)], 1
        )
        eyes = np.linalg.norm(footage.landmarks[:, 0] - footage.landmarks[:, 1], axis=1)
        off += (np.linalg.norm(seen - footage.landmarks, axis=2).mean(1) / eyes).tolist()
    assert np.median(off) < 0.1 and np.mean(np.array(off) < 0.2) > 0.9, np.percentile(off, [50, 90, 100])


def unavailable(kind: str) -> bool:
    if kind in NEEDS_WORLD:
        pytest.importorskip("pyworld", reason="the extra `fakes` is not installed")
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_fake_differs_where_it_says_and_nowhere_else(kind, seed, clip, other):
    unavailable(kind)
    real = untouched(clip, measure, seed=[seed], beside=kind, other=other, road=False)
    fake = forge(kind, clip, measure, seed=[seed], other=other, road=False)
    T = real.track_frames
    assert fake.bundle.track_frames == T == clip.track_frames - 2 * SPARE
    inside = {where: np.zeros(T, bool) for where in ("picture", "sound")}
    for first, last, where in fake.segments:
        assert 0 <= first < last <= T
        inside[where][first:last] = True
    seen = np.abs(pictures(fake.bundle).astype(int) - pictures(real))  # (T, S, S, 3)
    assert not seen[~inside["picture"]].any()
    heard = np.abs(fake.bundle.sound.astype(int) - real.sound).reshape(T, -1)  # (T, 640)
    assert not heard[~inside["sound"]].any()
    if kind in PICTURE:
        assert np.array_equal(fake.bundle.sound, real.sound) and not inside["sound"].any()
    if kind in SOUND:
        assert np.array_equal(fake.bundle.track, real.track) and not inside["picture"].any()
    assert any(each.any() for each in inside.values())
    level = np.sqrt(np.mean(np.square(real.sound, dtype=np.float64)))
    if inside["picture"].any():
        assert seen[inside["picture"]].any((1, 2, 3)).mean() > 0.5, "of the frames in it"
        assert seen[inside["picture"]].max((1, 2, 3)).mean() > 5, "levels, where it is strongest"
    if inside["sound"].any():
        assert heard[inside["sound"]].mean() > LEAST_CHANGE["sound"] * level


@pytest.mark.parametrize("kind", ["sbv", "region", "shift_blend"])
def test_masks_say_where_and_lie_in_the_face(kind, clip, other):
    for seed in range(4):
        fake = forge(kind, clip, measure, seed=[seed], road=False)
        boxes = face_boxes(take(clip))
        forged = np.zeros(fake.bundle.track_frames, bool)
        for first, last, _ in fake.segments:
            forged[first:last] = True
        assert fake.masks is not None and fake.masks.dtype == np.uint8
        assert np.array_equal(fake.masks.any((1, 2)), forged)
        for t in np.flatnonzero(forged):
            rows, columns = np.nonzero(fake.masks[t])
            x0, y0, x1, y1 = np.round(boxes[t])
            assert x0 <= columns.min() and columns.max() < x1 and y0 <= rows.min() and rows.max() < y1


def test_a_blended_face_changes_by_a_grey_level_or_more_on_average(clip):
    for kind in ("sbv", "region"):
        for seed in range(6):
            real, fake = (
                untouched(clip, measure, seed=[seed], road=False),
                forge(kind, clip, measure, seed=[seed], road=False),
            )
            strong = fake.masks >= fake.masks.max() / 2
            assert np.abs(pictures(fake.bundle).astype(int) - pictures(real))[strong].mean() >= LEAST_CHANGE["picture"]


def test_one_draw_holds_for_the_whole_clip(clip):
    """A face that holds still has the same mask and the same change on every frame."""
    still = take(clip)
    still = replace(still, frames=np.repeat(still.frames[:1], 30, 0), landmarks=np.repeat(still.landmarks[:1], 30, 0))
    still = replace(still, chosen=np.repeat(still.chosen[:1], 30))
    from visavox.pseudofakes.picture import sbv

    made = sbv(still, (0, 30), np.random.default_rng(0))
    assert (made.footage.frames == made.footage.frames[0]).all() and (made.masks == made.masks[0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_fakes_and_others_others(kind, clip, other):
    unavailable(kind)
    make = [forge(kind, clip, measure, seed=seed, other=other, seconds=1.4) for seed in ([4, 1], [4, 1], [4, 2])]
    for name in ("audio", "track", "faces", "mel_3cs", "mdist", "source_sha256", "notes"):
        a, b = getattr(make[0].bundle, name), getattr(make[1].bundle, name)
        assert np.array_equal(a, b), name
    assert make[0].bundle.source_sha256 != make[2].bundle.source_sha256
    assert make[0].segments != make[2].segments or not np.array_equal(make[0].bundle.track, make[2].bundle.track)
    turned = forge(kind, clip, measure, seed=[4, 1], turn=1, other=other, seconds=1.4)
    differs = not np.array_equal(turned.bundle.track, make[0].bundle.track)
    assert differs or not np.array_equal(turned.bundle.sound, make[0].bundle.sound)


def test_members_follow_from_the_forged_track_and_sound(clip, other, tmp_path):
    fake = forge("offset", clip, measure, seed=[1], road=False)
    bundle = fake.bundle
    assert np.array_equal(bundle.mel_3cs, mel_3cs(bundle.sound, RATE, clip.mel_3cs.shape[1]))
    shown = pictures(bundle)
    sync = correlation_sync(shown, bundle.landmarks, bundle.sound, RATE)
    assert np.abs(bundle.mdist - sync.mdist).max() < 0.1  # measured on what was not yet JPEG
    kept = shown[kept_frames(bundle.track_frames, len(bundle.faces))].astype(int)
    assert np.abs(kept - bundle.faces).mean() < 1
    bundle.save(tmp_path / "fake.npz")
    again = Bundle.load(tmp_path / "fake.npz")
    assert again.notes.splitlines()[-1].startswith("made: offset [[0, ") and again.prep_hash == clip.prep_hash


def test_an_offset_is_the_clips_own_sound_from_beside_the_stretch(clip):
    found = set()
    for seed in range(12):
        real, fake = (
            untouched(clip, None, seed=[seed], road=False),
            forge("offset", clip, None, seed=[seed], road=False),
        )
        whole = clip.sound.astype(np.int64)
        late = next(
            k
            for k in range(-15, 16)
            if np.array_equal(whole[(SPARE - k) * 640 :][: len(real.sound)], fake.bundle.sound)
        )
        assert 3 <= abs(late) <= 15
        found.add(late > 0)
    assert found == {True, False}


def test_avss_takes_a_frame_and_its_sound_from_half_a_second_to_a_second_away(clip):
    real, fake = untouched(clip, None, seed=[3], road=False), forge("avss", clip, None, seed=[3], road=False)
    (t, last, _), (again, _, _) = fake.segments
    assert (last, again) == (t + 1, t)
    seen, taken = pictures(real), fake.bundle.frame(t)
    source = int(np.abs(seen.astype(int) - taken).mean((1, 2, 3)).argmin())
    assert 12 <= abs(source - t) <= 25
    fade = round(0.002 * RATE)
    here, there = (slice(f * 640 + fade, (f + 1) * 640) for f in (t, source))
    assert np.array_equal(fake.bundle.sound[here], real.sound[there])


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_changes_the_sound_and_leaves_it_in_its_place(name, clip):
    sound = clip.sound
    back = recode_sound(sound, RATE, CODECS[name])
    assert back.shape == sound.shape and back.dtype == np.int16 and not np.array_equal(back, sound)
    signal, noise = np.square(sound, dtype=np.float64).sum(), np.square(back.astype(np.float64) - sound).sum()
    assert 3 < 10 * np.log10(signal / noise) < 45


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_as_loud_and_changes_more_when_it_is_to_change(name, clip, other):
    unavailable(name)
    passed = TOOLS[name](clip.sound, RATE, np.random.default_rng(0), other.sound)
    level = np.sqrt(np.mean(np.square(clip.sound, dtype=np.float64)))
    for sound in passed:
        assert sound.shape == clip.sound.shape and sound.dtype == np.int16
        assert np.sqrt(np.mean(np.square(sound, dtype=np.float64))) == pytest.approx(level, rel=0.05)
    assert np.abs(passed.changed.astype(int) - passed.plain).mean() > 0.05 * level


def test_frames_and_rates_come_back_as_they_went(clip):
    frames = pictures(clip)[:10]
    mild, hard = (np.abs(recode_frames(frames, crf).astype(int) - frames).mean() for crf in (18, 32))
    assert 0.1 < mild < hard < 15
    odd = recode_frames(frames[:, :95, :93], 20)
    assert odd.shape == (10, 95, 93, 3)
    there_and_back = resample(resample(clip.sound, RATE, 44100), 44100, RATE)
    level = np.sqrt(np.mean(np.square(clip.sound, dtype=np.float64)))
    assert len(there_and_back) == len(clip.sound)
    assert np.abs(there_and_back.astype(int) - clip.sound).mean() < 0.01 * level


def test_the_road_is_drawn_alike_for_both_classes(clip):
    """With one seed a real clip and its fake meet the same codecs: what the forgery left alone is equal after the road."""
    for seed in range(8):
        real = untouched(clip, None, seed=[seed], beside="sbv", seconds=1.2)
        fake = forge("sbv", clip, None, seed=[seed], seconds=1.2).bundle
        assert np.array_equal(real.sound, fake.sound) and np.array_equal(real.times, fake.times)
    travelled = [travel(take(clip, 1.2), np.random.default_rng(seed)) for seed in range(24)]
    bare = take(clip, 1.2)
    changed = [
        np.mean([not np.array_equal(getattr(t, name), getattr(bare, name)) for t in travelled])
        for name in ("frames", "sound")
    ]
    assert all(0.5 < share < 0.95 for share in changed), changed  # either of two with one half each


@pytest.mark.parametrize("kind", ["codec", "planted"])
def test_a_real_clip_passes_the_tool_of_its_fake_as_often(kind, clip, monkeypatch: pytest.MonkeyPatch):
    """In both classes half of the clips are vocoded as a whole: the parts outside of the forgery are, or are not, in both."""
    monkeypatch.setattr(make, "travel", lambda footage, rng: footage)
    monkeypatch.setattr(make, "PLANTED", ("griffin_lim", "codec"))
    tooled = []
    for seed in range(8):
        raw = take(clip, 0.9, np.random.default_rng([seed, 0])).sound
        real = untouched(clip, None, seed=[seed], beside=kind, seconds=0.9).sound
        fake = forge(kind, clip, None, seed=[seed], seconds=0.9)
        alone = np.ones(len(raw), bool)
        for first, last, _ in fake.segments:
            alone[first * 640 : last * 640] = False
        assert np.array_equal(fake.bundle.sound[alone], real[alone]), fake.kind
        tooled.append(not np.array_equal(real, raw))
    assert 1 < sum(tooled) < 7, tooled


def test_what_changes_nothing_is_no_fake(clip):
    """Of a sound that is the same throughout every splice is the sound itself: another kind is drawn, or the clip stays real."""
    flat = replace(clip, audio=np.ones_like(clip.audio))
    how = {"seconds": 0.9, "road": False}
    with pytest.raises(NothingChanged, match="5 draws of splice_sound change neither a pixel nor a sample"):
        forge("splice_sound", flat, None, seed=[0], **how)
    assert forge_one({"splice_sound": 1.0}, flat, None, seed=[0], **how) is None
    shares = {"splice_sound": 0.8, "region": 0.2}
    seed = next([n] for n in range(20) if draw_kind(shares, flat, [n]) == "splice_sound")
    one, again = (forge_one(shares, flat, None, seed=seed, **how) for _ in range(2))
    assert one.kind == "region" and one.bundle.source_sha256 == again.bundle.source_sha256
    assert np.array_equal(one.bundle.track, forge("region", flat, None, seed=seed, **how).bundle.track)
    spliced = forge_one(shares, clip, None, seed=seed, **how)
    alone = forge("splice_sound", clip, None, seed=seed, **how)
    assert spliced.kind == "splice_sound" and spliced.bundle.notes == alone.bundle.notes


@pytest.mark.parametrize("splice", [splice_picture, splice_sound])
def test_a_splice_begins_and_ends_where_something_changes(splice, clip):
    """Wherever it lies, at the clip's end too."""
    before = take(clip)
    T = before.length
    for seed in range(60):
        span = (0, T) if seed % 2 else (T - 14, T)
        made, [(first, last, where)], _ = splice(before, span, np.random.default_rng(seed))
        if where == "picture":
            changed = (made.frames != before.frames).any((1, 2, 3))
        else:
            changed = (made.sound != before.sound).reshape(T, -1).any(1)
        assert [first, last - 1] == [int(np.flatnonzero(changed)[end]) for end in (0, -1)], seed


def test_a_face_that_holds_still_is_blended_with_whatever_there_is(clip):
    still = take(clip)
    still = replace(
        still, frames=np.repeat(still.frames[:1], 12, 0), landmarks=still.landmarks[:12], chosen=still.chosen[:12]
    )
    for seed in range(4):
        made, segments, masks = shift_blend(still, (0, 12), np.random.default_rng(seed))
        assert segments and masks.any() and np.array_equal(made.frames, still.frames)


def test_what_cannot_be_made_says_so(clip, make_bundle):
    nan = np.float32("nan")
    mute = replace(clip, audio=np.zeros(0, np.int16), status="no_audio", mdist=np.full(31, nan), latency=nan, conf=nan)
    with pytest.raises(BundleError, match="lpc needs sound"):
        forge("lpc", mute, None, seed=[0])
    with pytest.raises(BundleError, match="swap needs sound, also of somebody else"):
        forge("swap", clip, None, seed=[0])
    with pytest.raises(BundleError, match="'deepfake' is no kind of fake; known: sbv"):
        forge("deepfake", clip, None, seed=[0])
    with pytest.raises(BundleError, match="store_track=true"):
        forge("sbv", replace(clip, track=np.zeros(0, np.uint8)), None, seed=[0])
    with pytest.raises(BundleError, match="the clip spares 2 frames at its ends, an offset needs 3"):
        forge("offset", clip.slice(0, 25), None, seed=[0])
    assert forge("sbv", mute, None, seed=[0]).bundle.status == "no_audio"
    assert draw_kind({"offset": 0.5, "sbv": 0.5}, mute, [0]) == "sbv"
    with pytest.raises(BundleError, match=r"no kind of offset can be made of it \(no sound, 80 frames\); add sbv"):
        draw_kind({"offset": 1.0}, mute, [0])


def test_weights_are_shares_and_words_that_are_none_say_so():
    assert weights(["sbv", "offset:0.5", "world:0.5"]) == {"sbv": 0.5, "offset": 0.25, "world": 0.25}
    for words, said in (
        (["sbvv"], "did you mean sbv"),
        (["sbv", "sbv:2"], "listed twice"),
        (["sbv:0"], "no weight above 0"),
        (["sbv:x"], "no weight above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            weights(words)


def test_windows_lie_in_their_span_and_are_at_least_one():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        first, last = 5, 5 + int(rng.integers(3, 120))
        windows = gates((first, last), rng, 25, (0.5, 1.5))
        assert windows and all(first <= a < b <= last for a, b in windows)
        assert all(b < c for (_, b), (c, _) in zip(windows, windows[1:]))


def test_landmarks_are_steadied_and_never_left_behind():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.4, (60, 1, 2)), 0) + np.tile(
        [[70, 90], [150, 90], [110, 130], [80, 170], [140, 170]], (60, 1, 1)
    )
    calm = steady(walk.astype(np.float32), 224)
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.8 * np.abs(np.diff(walk, axis=0)).mean()
    jump = walk + np.where(np.arange(60) < 30, 0, 40)[:, None, None]
    assert np.linalg.norm(steady(jump, 224) - jump, axis=2).mean(1).max() <= 3.001


def test_an_outline_lies_about_the_landmarks(clip):
    points = outlines(clip.landmarks, "face")  # (T, P, 2)
    eyes, chin = clip.landmarks[:, :2].mean(1), points[:, :, 1].max(1)
    mouth = clip.landmarks[:, 3:].mean(1)
    assert (chin > mouth[:, 1]).all() and (points[:, :, 1].min(1) < eyes[:, 1]).all()
    assert (points[:, :, 0].min(1) < clip.landmarks[:, :, 0].min(1)).all()


def test_a_sheet_shows_frames_difference_mask_and_spectrograms(clip):
    real, fake = untouched(clip, None, seed=[2], road=False), forge("sbv", clip, None, seed=[2], road=False)
    picture = sheet(real, fake, columns=4)
    assert picture.shape == (16 + 6 + 4 * 112 + 6 + 3 * 112, 4 * 112, 3) and picture.dtype == np.uint8
    assert (picture[18, :] == (200, 30, 30)).all()  # all of it forged
    assert len(np.unique(picture[-112:].reshape(-1, 3), axis=0)) == 1  # of the sound nothing
    real, fake = untouched(clip, None, seed=[2], road=False), forge("avss", clip, None, seed=[2], road=False)
    picture = sheet(real, fake, columns=8)  # one frame of 50
    red = (picture[18] == (200, 30, 30)).all(1).reshape(8, 112)
    changed = picture[22 + 2 * 112 : 22 + 3 * 112].reshape(112, 8, 112, 3).any((0, 2, 3))
    assert red.all(1).sum() == red.any(1).sum() == 1 and np.array_equal(changed, red.any(1))
    assert len(np.unique(picture[-112:].reshape(-1, 3), axis=0)) > 5


def test_put_together_without_measuring_keeps_the_distances(clip):
    assert np.array_equal(put_together(take(clip), None).mdist, clip.mdist)


def test_every_kind_has_one_group():
    assert len(set(KINDS)) == len(KINDS) == len(PICTURE) + len(SOUND) + len(BOTH)
    assert json.dumps(KINDS)


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(100, 150, 150), (100, 0, 100), (0, 150, 0)])
def test_a_voice_without_pitch_lends_none(ours: float, theirs: float, expected: float, monkeypatch):
    voices = [vocoders._Voice(np.full(4, float(f0)), np.ones((4, 3)), np.ones((4, 3))) for f0 in (ours, theirs)]
    monkeypatch.setattr(vocoders, "_world", lambda sound, rate: voices[0] if len(sound) == 640 else voices[1])
    spoken: list[float] = []
    monkeypatch.setattr(vocoders, "_spoken", lambda voice, rate, like: spoken.append(voice.f0[0]))
    vocoders.voice_swap(np.ones(640, np.int16), 16000, np.random.default_rng(0), np.ones(900, np.int16))
    assert spoken == [ours, expected]
