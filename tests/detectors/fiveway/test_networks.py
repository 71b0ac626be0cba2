"""The branches' networks: published names and sizes, published numbers, and what each one may not depend on."""

import pytest
import torch
import torchvision
from torch import nn

from visavox.detectors.fiveway import sync, weights
from visavox.detectors.fiveway.audio import CepstraNet, fit_length, standardised
from visavox.detectors.fiveway.temporal import TemporalNet
from visavox.detectors.fiveway.tiny import LaDeDa9, TinyLaDeDa, cut_patches, distillation_loss
from visavox.detectors.fiveway.visual import FrameNet, normalised
from visavox.weights import Fit, WeightsError, fit

# The published code (barcavia/RealTime-DeepfakeDetection-in-the-RealWorld e734562) on `filled` weights and `image`:
# map[0, 0, 0], map[1, 7, 3], mean of the map, and both images' pooled logits.
PUBLISHED_TINY = {
    "raw": (0.34134, -0.565718, 0.101135, 0.080963, 0.121306),
    "npr": (0.105173, 0.435511, 0.172063, 0.137727, 0.206398),
    "x_grad": (-0.951142, 1.129978, 0.055535, 0.023082, 0.087989),
    "y_grad": (0.879251, 0.029845, 0.137365, 0.113254, 0.161476),
    "left_diag": (-1.463409, 1.09526, 0.091481, 0.031283, 0.151679),
    "right_diag": (0.160456, 0.949196, 0.104084, 0.079889, 0.128278),
}
PUBLISHED_TEACHER = (0.007888, 0.154591, 0.140714, 0.25322)  # map[0, 0, 0], map[1, 1, 2], both pooled logits


def filled(network: nn.Module) -> nn.Module:
    """The network in eval mode with weights that follow from their names and places alone."""
    state = network.state_dict()
    for i, (name, value) in enumerate(sorted(state.items())):
        if not value.dtype.is_floating_point:
            continue
        k = torch.arange(value.numel(), dtype=torch.float64)
        made = torch.remainder((k + 1) * (0.6180339887498949 + i * 0.01), 1) * 2 - 1
        if value.ndim > 1:
            made = made * (3 / value[0].numel()) ** 0.5 * 1.4
        if name.endswith("running_var"):
            made = 1 + 0.5 * torch.sin(k + i)
        elif ".bn" in name or name.startswith("bn") or "downsample.1" in name:
            made = (1 if name.endswith("weight") else 0) + 0.3 * torch.sin(k + i)
        state[name] = made.float().view(value.shape)
    network.load_state_dict(state)
    return network.eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    k = torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)
    return torch.remainder((k + 1) * 0.7548776662466927 * (1 + k / 1e4), 1).float().view(2, 3, 32, 32)


@pytest.mark.parametrize("preprocess", PUBLISHED_TINY)
def test_tiny_ladeda_gives_the_published_numbers(preprocess, image):
    net = filled(TinyLaDeDa(preprocess))
    with torch.no_grad():
        found, pooled = net.patch_map(image), net(image)
    values = [found[0, 0, 0], found[1, 7, 3], found.mean(), *pooled]
    torch.testing.assert_close(torch.stack(values), torch.tensor(PUBLISHED_TINY[preprocess]), atol=1e-5, rtol=0)


def test_the_teacher_gives_the_published_numbers(image):
    net = filled(LaDeDa9())
    assert sum(p.numel() for p in net.parameters()) == 13_641_793
    with torch.no_grad():
        found, pooled = net.patch_map(image), net(image)
    values = torch.stack([found[0, 0, 0], found[1, 1, 2], *pooled])
    torch.testing.assert_close(values, torch.tensor(PUBLISHED_TEACHER), atol=1e-5, rtol=0)


def test_tiny_ladeda_has_its_published_size_and_map():
    net = TinyLaDeDa()
    assert sum(p.numel() for p in net.parameters()) == 1297
    assert net.patch_map(torch.zeros(1, 3, 224, 224)).shape == (1, 110, 110)
    assert net.patch_map(torch.zeros(1, 3, 9, 9)).shape == (1, 3, 3)


@pytest.mark.data
@pytest.mark.parametrize("file", ["WildRF_Tiny_LaDeDa.pth", "ForenSynth_Tiny_LaDeDa.pth"])
def test_trained_tiny_ladeda_fits(weights_dir, file):
    said = weights.start(TinyLaDeDa(), "tiny", str(weights_dir / file))
    assert said == "21 of 21 entries loaded"


def test_distillation_reaches_the_teacher():
    """A student that is taught one teacher's patch logits comes nearer to them; the teacher stays as it is."""
    torch.manual_seed(0)
    teacher, student = LaDeDa9(width=4).eval().requires_grad_(False), TinyLaDeDa()
    before = [p.clone() for p in teacher.parameters()]
    images = torch.rand(4, 3, 64, 64)
    optimiser = torch.optim.Adam(student.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = distillation_loss(student, teacher, images)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters()))


def test_the_teacher_s_map_is_what_it_says_of_each_patch_alone():
    """Position (i, j) of the map is the logit of the 9 x 9 pixels from (8 i, 8 j)."""
    net = filled(LaDeDa9("raw", width=8))
    image = torch.rand(1, 3, 41, 41, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net.patch_map(image)
        assert found.shape == (1, 5, 5)
        for i, j in ((0, 0), (2, 3), (4, 4)):
            patch = image[:, :, 8 * i : 8 * i + 9, 8 * j : 8 * j + 9]
            torch.testing.assert_close(net(patch)[0], found[0, i, j], atol=1e-5, rtol=1e-5)


def test_patches_lie_on_the_seed_s_grid():
    faces = torch.arange(224 * 224).reshape(1, 224, 224, 1).expand(1, 224, 224, 3).numpy()
    patches = cut_patches(faces)
    assert patches.shape == (1, 9, 32, 32, 3)
    corners = [divmod(int(patch[0, 0, 0]), 224) for patch in patches[0]]
    assert corners == [(y - 16, x - 16) for y in (56, 112, 168) for x in (56, 112, 168)]
    with pytest.raises(ValueError, match="frame_size=64 or more"):
        cut_patches(faces[:, :48, :48])


def test_the_visual_branch_is_torchvision_s_resnet18():
    theirs = filled(torchvision.models.resnet18(num_classes=1))
    ours = FrameNet().eval()
    assert fit(ours, theirs.state_dict(), what="visual") == Fit(122)
    assert sum(p.numel() for p in ours.parameters()) == 11_177_025
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images)[:, 0])
        theirs.fc = nn.Identity()
        torch.testing.assert_close(ours.features(images), theirs(images))


def test_faces_are_normalised_as_imagenet():
    faces = torch.tensor([[[[124, 116, 104]]]], dtype=torch.uint8)  # 255 * the mean
    assert normalised(faces).abs().max() < 0.01


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """Entries of a batch norm."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def _resnet18() -> dict[str, tuple[int, ...]]:
    """Entries of torchvision's resnet18 with one logit, from the paper's table (He et al., 2016)."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    for i, width in enumerate((64, 128, 256, 512), start=1):
        for j in range(2):
            inside = width if j or i == 1 else width // 2
            block = f"layer{i}.{j}"
            found |= {f"{block}.conv1.weight": (width, inside, 3, 3), **_norm(f"{block}.bn1", width)}
            found |= {f"{block}.conv2.weight": (width, width, 3, 3), **_norm(f"{block}.bn2", width)}
            if inside != width:
                found |= {
                    f"{block}.downsample.0.weight": (width, inside, 1, 1),
                    **_norm(f"{block}.downsample.1", width),
                }
    return found | {"fc.weight": (1, 512), "fc.bias": (1,)}


SEED_SHAPES = {
    "tiny": (
        lambda: TinyLaDeDa("raw"),
        {
            "conv1.weight": (8, 3, 1, 1),
            "conv2.weight": (8, 8, 3, 3),
            **_norm("bn1", 8),
            "layer1.0.conv1.weight": (8, 8, 1, 1),
            **_norm("layer1.0.bn1", 8),
            "layer1.0.conv2.weight": (8, 8, 3, 3),
            **_norm("layer1.0.bn2", 8),
            "fc.weight": (1, 8),
            "fc.bias": (1,),
        },
        1297,
    ),
    "visual": (FrameNet, _resnet18(), 11_177_025),
    "audio": (
        CepstraNet,
        {
            **{f"conv{i}.weight": (32 * 2 ** (i - 1), 1 if i == 1 else 16 * 2 ** (i - 1), 3, 3) for i in range(1, 5)},
            **{f"conv{i}.bias": (32 * 2 ** (i - 1),) for i in range(1, 5)},
            **{name: shape for i in range(1, 5) for name, shape in _norm(f"bn{i}", 32 * 2 ** (i - 1)).items()},
            "fc.weight": (1, 256),
            "fc.bias": (1,),
        },
        389_057,
    ),
    "temporal": (
        TemporalNet,
        {
            **{f"lstm.weight_ih_l0{way}": (512, 512) for way in ("", "_reverse")},
            **{f"lstm.weight_hh_l0{way}": (512, 128) for way in ("", "_reverse")},
            **{f"lstm.bias_{which}_l0{way}": (512,) for which in ("ih", "hh") for way in ("", "_reverse")},
            "fc.weight": (1, 256),
            "fc.bias": (1,),
        },
        657_665,
    ),
    "sync": (
        sync.ClipHead,
        {
            "net.0.weight": (256, 768),
            "net.0.bias": (256,),
            "net.3.weight": (256, 256),
            "net.3.bias": (256,),
            "net.6.weight": (1, 256),
            "net.6.bias": (1,),
        },
        262_913,
    ),
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("branch", SEED_SHAPES)
def test_files_of_the_seed_s_names_and_shapes_load_strict(branch, prefix, tmp_path):
    """Bare, or as DataParallel saves them; nothing may be missing, too many or of another shape."""
    make, shapes, size = SEED_SHAPES[branch]
    path = tmp_path / f"{branch}.pth"

    def start(state):
        torch.save({prefix + name: value for name, value in state.items()}, path)
        network = make()
        return weights.start(network, branch, str(path)), network

    state = {name: torch.full(shape, 0.01) if shape else torch.tensor(1250) for name, shape in shapes.items()}
    said, network = start(state)
    assert said == f"{len(shapes)} of {len(shapes)} entries loaded"
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert sum(p.numel() for p in network.parameters()) == size
    *_, last = state
    with pytest.raises(WeightsError, match=rf"1 missing \['{last}'\]"):
        start({name: value for name, value in state.items() if name != last})
    with pytest.raises(WeightsError, match=r"1 unknown \['stranger'\]"):
        start(state | {"stranger": torch.zeros(1)})
    with pytest.raises(WeightsError, match=rf"1 of another shape .*{last} \(2,\), expected \(1,\)"):
        start(state | {last: torch.zeros(2)})


def test_imagenet_s_classifier_is_left_out_and_said(tmp_path):
    torch.save({f"module.{k}": v for k, v in torchvision.models.resnet18().state_dict().items()}, tmp_path / "x.pth")
    said = weights.start(FrameNet(), "visual", str(tmp_path / "x.pth"), leave_out=("fc.weight", "fc.bias"))
    assert said == "120 of 122 entries loaded, left as they were: fc.bias, fc.weight"


def test_a_pickle_is_not_read_and_the_way_out_is_named(tmp_path):
    (tmp_path / "head.joblib").write_bytes(b"\x80\x04.")
    with pytest.raises(WeightsError, match="fuse --from-sklearn"):
        weights.start(FrameNet(), "visual", str(tmp_path / "head.joblib"))


def test_the_bilstm_does_not_see_padding():
    net = filled(TemporalNet(8, 4))
    features = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([net(features[:1, :3]), net(features[1:])])
    features[0, 3:] = 100.0
    torch.testing.assert_close(net(features, torch.tensor([3, 6])), alone)
    with pytest.raises(ValueError, match="without frames"):
        net(features, torch.tensor([0, 6]))


def test_padded_bilstm_averages_over_32_rows_as_the_seed_does():
    net = filled(TemporalNet(8, 4, mode="padded"))
    features = torch.rand(1, 5, 8, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([features, torch.zeros(1, 27, 8)], 1)
    torch.testing.assert_close(net(features), net.fc(net.lstm(rows)[0].mean(1))[:, 0])
    long = torch.rand(1, 41, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(long), net(long[:, 4:36]))


def test_cepstra_are_cut_at_the_centre_and_repeated_or_padded():
    cepstra = torch.arange(10.0).expand(3, 10).numpy()
    assert fit_length(cepstra, 4, "zero")[0].tolist() == [3, 4, 5, 6]
    assert fit_length(cepstra, 12, "zero")[0].tolist() == [*range(10), 0, 0]
    assert fit_length(cepstra, 12, "repeat")[0].tolist() == [*range(10), 0, 1]
    even = standardised(fit_length(cepstra, 10, "zero"))
    assert abs(even.mean()) < 1e-6 and abs(even.std() - 1) < 1e-3


def test_audio_network_takes_the_seed_s_map():
    assert CepstraNet()(torch.zeros(2, 1, 90, 400)).shape == (2,)


def test_moved_sound_is_moved_by_what_is_asked():
    torch.manual_seed(0)
    starts = torch.randint(0, 26, (64, 8))
    moved = sync.moved_starts(starts, torch.full((64,), 25), 3, 15)
    apart = (moved - starts).abs()
    assert apart.min() >= 3 and apart.max() <= 15 and moved.min() >= 0 and moved.max() <= 25
    assert {1, -1} <= set((moved - starts).sign().flatten().tolist())


def test_window_sync_learns_which_sound_belongs():
    """Mouths that open with the sound's loudness: aligned windows become more probable than moved ones."""
    torch.manual_seed(0)
    net = sync.WindowSync(n_mels=8, width=4, dim=16)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(120):
        mouths, mel = _talking(6)
        starts = torch.randint(0, 16, (6, 3))
        moved = sync.moved_starts(starts, torch.full((6,), 30), 3, 15)
        loss = sync.window_loss(net, net.see(mouths), net.hear(mel), starts, moved, 10, least_shift=3, heat=0.1)
        optimiser.zero_grad()
        (loss.contrastive + loss.match).backward()
        optimiser.step()
    net.eval()
    mouths, mel = _talking(8)
    with torch.no_grad():
        own = torch.stack([net.windows(m, s, 10, 5)[1].mean() for m, s in zip(mouths, mel)])
        moved = torch.stack([net.windows(m, s.roll(4 * 7, 1), 10, 5)[1].mean() for m, s in zip(mouths, mel)])
    assert (own > moved).float().mean() >= 0.85
    assert own.mean() > 0 > moved.mean()


def test_windows_cover_the_clip_and_one_is_enough():
    net = filled(sync.WindowSync(n_mels=8, width=4, dim=16))
    mouths, mel = _talking(1)
    starts, logits = net.windows(mouths[0], mel[0], 15, 10)
    assert starts.tolist() == [0, 10, 20, 25] and logits.shape == (4,)
    assert net.windows(mouths[0, :6], mel[0, :, :24], 15, 10)[0].tolist() == [0]


def _talking(clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    open_ = torch.rand(clips, 40)  # (B, L)
    mouths = torch.zeros(clips, 40, 16, 16, 3, dtype=torch.uint8)
    mouths[:, :, 4:12, 4:12] = (255 * open_[:, :, None, None, None]).to(torch.uint8)
    mel = open_.repeat_interleave(4, 1)[:, None].expand(-1, 8, -1) + 0.05 * torch.randn(clips, 8, 160)
    return mouths, mel
