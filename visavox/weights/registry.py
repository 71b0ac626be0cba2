"""Registry of other people's trained weights: where each file is published, how it is known, what it wants to see.

Every URL was read in the publisher's own repository. A sha256 is given only where the file itself, or its publisher's
word on the sum, was at hand; `sha256=None` is printed as "unverified".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One published file of weights."""

    name: str
    file: str
    """Name under which the file lies in the weights folder."""
    urls: tuple[str, ...]
    """Sources of the same bytes, the publisher's first."""
    licence: str
    labels: str
    """Direction of the output: what a higher value means in these weights, before any turning round."""
    input: str
    """What the network wants to see: layout, range, colour order, normalisation."""
    purpose: str
    fake_index: int | None = None
    """Which of the two classes of the last layer means fake, 0 or 1; None: these weights know no fakes."""
    size: int | None = None
    """Bytes; None when unknown."""
    sha256: str | None = None
    """None: unverified, nobody has told us the sum."""
    sha256_prefix: str = ""
    """First digits of the sum, where the publisher puts them in the file's name."""
    manual: bool = False
    """The sources answer a browser only (log-in, consent page): to be downloaded by hand."""


_MBULSS = "https://media.githubusercontent.com/media/Mbulss/Deepfake-Detecetor/67bf13e14d4e30264bc7bdb2bbb7cf68a50784b8"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_MARLIN = "https://github.com/ControlNet/MARLIN/releases/download/model_v1"
_2D3MF = "https://raw.githubusercontent.com/aiden200/2D3MF/d4fd8e8779005fa93453a84681e576bd4026fee2"
_SPEECHBRAIN = "https://huggingface.co/speechbrain/spkrec-xvect-voxceleb/resolve/main"
_LADEDA = (
    "https://raw.githubusercontent.com/barcavia/RealTime-DeepfakeDetection-in-the-RealWorld/"
    "e734562bbb6763f5bb2951099e9dc9a38df5e7dd/weights/Tiny_LaDeDa"
)
_OPENMMLAB = "https://download.openmmlab.com/mmaction"
_TIMESFORMER = "timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb"

REGISTRY: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="syncnet_v2",
            file="syncnet_v2.model",
            urls=(
                "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
                "https://huggingface.co/JaesungHuh/voxconverse_pipeline/resolve/main/models/"
                "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442/syncnet.model",
            ),
            size=54_573_114,
            sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
            licence="MIT (joonson/syncnet_python)",
            labels="none; a higher distance means less in step",
            input="224x224 whole-face crops, BGR 0-255 as float, 5 frames at 25 fps; 13 MFCC of int16 16 kHz sound",
            purpose="SyncNet: distance of mouth and voice (sync=syncnet)",
        ),
        # Not biubug6's own release (sha256 2979b33f...) but a training of its code; input and names are equal.
        Entry(
            name="retinaface_mobilenet0.25",
            file="retinaface_mobilenet0.25.pth",
            urls=(
                "https://raw.githubusercontent.com/m2man/Pytorch_Retinaface/"
                "aa00934b860abc93fcdbc3bccfa0fd4260c2fd2c/weights/mobilenet0.25_Final.pth",
                "https://github.com/m2man/Pytorch_Retinaface/raw/"
                "aa00934b860abc93fcdbc3bccfa0fd4260c2fd2c/weights/mobilenet0.25_Final.pth",
            ),
            size=1_789_735,
            sha256="38ec7bb3c9cbfe2f40edabc05fab970a6d648747cbc534092be85d5eb9b37ed0",
            licence="MIT (biubug6/Pytorch_Retinaface)",
            labels="none; a higher score means more face",
            input="BGR 0-255 as float minus (104, 117, 123), any size",
            purpose="face detector (face_detector=retinaface_mobilenet0.25)",
        ),
        # The name ends in the digits of some sum (f168fae3c), of archive or member: not said, so not relied on.
        Entry(
            name="retinaface_resnet50",
            file="retinaface_resnet50_2020-07-20-f168fae3c.zip",
            urls=(
                "https://github.com/ternaus/retinaface/releases/download/0.01/"
                "retinaface_resnet50_2020-07-20-f168fae3c.zip",
            ),
            licence="MIT (ternaus/retinaface)",
            labels="none; a higher score means more face",
            input="RGB, ImageNet mean and deviation, longest side to max_size, padded to a square",
            purpose="face detector (face_detector=retinaface_resnet50)",
        ),
        Entry(
            name="timesformer_k400",
            file=f"{_TIMESFORMER}_20220815-a4d0d01f.pth",
            urls=(f"{_OPENMMLAB}/v1.0/recognition/timesformer/{_TIMESFORMER}/{_TIMESFORMER}_20220815-a4d0d01f.pth",),
            sha256_prefix="a4d0d01f",  # mmaction2's tools/deployment/publish_model.py names a file by its sum
            licence="Apache-2.0 (open-mmlab/mmaction2)",
            labels="none; 400 classes of Kinetics",
            input="8 frames of 224x224, RGB, (x - 127.5) / 127.5",
            purpose="TimeSformer-base, divided space-time, trained on Kinetics-400 (start of training)",
        ),
        Entry(
            name="vit_base_patch16_224",
            file="vit_base_patch16_224.pth",
            urls=(f"{_OPENMMLAB}/recognition/timesformer/vit_base_patch16_224.pth",),
            licence="Apache-2.0 (google-research/vision_transformer, converted by open-mmlab/mmaction2)",
            labels="none; classes of ImageNet-21k",
            input="224x224, RGB, (x - 127.5) / 127.5",
            purpose="ViT-B/16, from which the published TimeSformer starts (start of training)",
        ),
        Entry(
            name="xception_imagenet",
            file="xception-43020ad28.pth",
            urls=(
                "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth",
            ),
            licence="Apache-2.0 (rwightman/pytorch-image-models, ported from TensorFlow)",
            labels="none; 1000 classes of ImageNet",
            input="299x299, RGB, (x - 127.5) / 127.5",
            purpose="timm's legacy_xception (start of training of xception_video and xception_audio)",
        ),
        # timm's clean_checkpoint.py names a file by the first 8 digits of its sum.
        Entry(
            name="efficientnet_b0_imagenet",
            file="efficientnet_b0_ra-3dd342df.pth",
            urls=(f"{_TIMM}/efficientnet_b0_ra-3dd342df.pth",),
            sha256_prefix="3dd342df",
            licence="Apache-2.0 (rwightman/pytorch-image-models)",
            labels="none; 1000 classes of ImageNet",
            input="224x224, RGB, ImageNet mean and deviation",
            purpose="timm's efficientnet_b0 (start of training of anomaly's visual stream)",
        ),
        Entry(
            name="mobilenetv2_100_imagenet",
            file="mobilenetv2_100_ra-b33bc2c4.pth",
            urls=(f"{_TIMM}/mobilenetv2_100_ra-b33bc2c4.pth",),
            sha256_prefix="b33bc2c4",
            licence="Apache-2.0 (rwightman/pytorch-image-models)",
            labels="none; 1000 classes of ImageNet",
            input="224x224, RGB, ImageNet mean and deviation",
            purpose="timm's mobilenetv2_100 (start of training of anomaly's audio stream)",
        ),
        # torchvision names a file by the first 8 digits of its sum.
        Entry(
            name="resnet18_imagenet",
            file="resnet18-f37072fd.pth",
            urls=("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
            sha256_prefix="f37072fd",
            licence="BSD-3-Clause (pytorch/vision)",
            labels="none; 1000 classes of ImageNet",
            input="224x224, RGB, ImageNet mean and deviation",
            purpose="torchvision's resnet18 (start of fiveway's branch visual)",
        ),
        Entry(
            name="tiny_ladeda_wildrf",
            file="WildRF_Tiny_LaDeDa.pth",
            urls=(f"{_LADEDA}/WildRF_Tiny_LaDeDa.pth",),
            size=11_654,
            sha256="5e063100564d2ddfe9bf48074e351c8f2b38855552574a18a0738e7f2a764d80",
            licence="software research licence (barcavia/RealTime-DeepfakeDetection-in-the-RealWorld)",
            labels="one logit, 0 = real and 1 = fake",
            fake_index=1,
            input="any size, RGB, ImageNet mean and deviation",
            purpose="Tiny-LaDeDa trained on WildRF, photographs of social networks (start of fiveway's branch tiny)",
        ),
        Entry(
            name="tiny_ladeda_forensynth",
            file="ForenSynth_Tiny_LaDeDa.pth",
            urls=(f"{_LADEDA}/ForenSynth_Tiny_LaDeDa.pth",),
            size=12_405,
            sha256="4624258c70489cbff2778153ce6fc7f5ed16170b59a541a06dc3d4c759fd68a6",
            licence="software research licence (barcavia/RealTime-DeepfakeDetection-in-the-RealWorld)",
            labels="one logit, 0 = real and 1 = fake",
            fake_index=1,
            input="any size, RGB, ImageNet mean and deviation",
            purpose="Tiny-LaDeDa trained on ForenSynths, pictures of ProGAN (start of fiveway's branch tiny)",
        ),
        # GenD's three files: the address follows from the names that its README gives to `from_pretrained`.
        *(
            Entry(
                name=name,
                file=f"{name}.safetensors",
                urls=(f"https://huggingface.co/yermandy/{hub}/resolve/main/model.safetensors",),
                licence=licence,
                labels="two classes, 0 = real and 1 = fake",
                fake_index=1,
                input=f"224x224 faces aligned by five landmarks (scale 1.3), RGB, {norm}",
                purpose=f"GenD on {backbone}, its layer norms tuned on FaceForensics++ (visavox detect)",
            )
            for name, hub, backbone, licence, norm in (
                (
                    "gend_clip_l14",
                    "GenD_CLIP_L_14",
                    "CLIP ViT-L/14",
                    "MIT (yermandy/GenD)",
                    "CLIP's mean and deviation",
                ),
                (
                    "gend_pe_l",
                    "GenD_PE_L",
                    "PE-core ViT-L/14",
                    "MIT (yermandy/GenD); PE-core Apache-2.0",
                    "(x - 127.5) / 127.5",
                ),
                (
                    "gend_dinov3_l16",
                    "GenD_DINOv3_L",
                    "DINOv3 ViT-L/16",
                    "MIT (yermandy/GenD); DINOv3 has a licence of its own (Meta)",
                    "ImageNet mean and deviation",
                ),
            )
        ),
        *(
            Entry(
                name=f"{name}_config",
                file=f"{name}.config.json",
                urls=(f"https://huggingface.co/yermandy/{hub}/resolve/main/config.json",),
                licence="MIT (yermandy/GenD)",
                labels="none; a few lines of JSON",
                input="nothing",
                purpose=f"says which head {name} has (visavox detect)",
            )
            for name, hub in (
                ("gend_clip_l14", "GenD_CLIP_L_14"),
                ("gend_pe_l", "GenD_PE_L"),
                ("gend_dinov3_l16", "GenD_DINOv3_L"),
            )
        ),
        # DeepFense: the address follows from its hub.py (organisation, file), the labels from its configurations (label_map).
        Entry(
            name="deepfense_wavlm_nes2net",
            file="ASV19_WavLM_Nes2Net_NoAug_Seed42.pth",
            urls=("https://huggingface.co/DeepFense/ASV19_WavLM_Nes2Net_NoAug_Seed42/resolve/main/best_model.pth",),
            licence="Apache-2.0 (Yaselley/deepfense-framework); WavLM, which it starts from, MIT (microsoft/unilm)",
            labels="two classes, 0 = fake (spoof) and 1 = real (bona fide)",
            fake_index=0,
            input="4 s of sound at 16 kHz, mono in [-1, 1], shorter sound repeated, not normalised",
            purpose="WavLM-Large and Nes2Net, trained on ASVspoof 2019 LA (visavox detect, branch voice)",
        ),
        # The sums are those of the repository's Git LFS pointers. The two files were trained with opposite labels: the data set
        # of the audio notebook gives RealVideo-RealAudio label 0, that of the video notebook class 0 to fakes; the multimodal
        # notebook swaps the audio logits before it fuses them.
        Entry(
            name="xception_video_favceleb",
            file="epoch_007.pt",
            urls=(f"{_MBULSS}/epoch_007.pt",),
            size=206_612_875,
            sha256="ef01f8f6c5881a7b2b1383e91a8860b2cee89c2d49e4cb86fb31c26128f11897",
            licence="none stated (Mbulss/Deepfake-Detecetor)",
            labels="two classes, 0 = fake and 1 = real",
            fake_index=0,
            input="299x299 face crops, RGB, (x - 127.5) / 127.5",
            purpose="video branch trained on FakeAVCeleb (visavox fuse)",
        ),
        Entry(
            name="xception_audio_favceleb",
            file="best_audio_xception.pth",
            urls=(f"{_MBULSS}/best_audio_xception.pth",),
            size=264_347_911,
            sha256="e3629571f6795250f24e76f551bd73ee73272b542f3367733fc729e5097e5695",
            licence="none stated (Mbulss/Deepfake-Detecetor)",
            labels="two classes, 0 = real and 1 = fake",
            fake_index=1,
            input="299x299 mel images of 2 s windows, 128 bins from 20 to 8000 Hz, dB, mean 0 and deviation 1, 3 equal channels",
            purpose="audio branch trained on FakeAVCeleb (visavox fuse)",
        ),
        Entry(
            name="marlin_vit_small_ytf",
            file="marlin_vit_small_ytf.encoder.pt",
            urls=(f"{_MARLIN}/marlin_vit_small_ytf.encoder.pt",),
            licence="CC BY-NC 4.0 (ControlNet/MARLIN)",
            labels="none; features of 384",
            input="16 frames of 224x224, every second of 25 fps, RGB in [0, 1]",
            purpose="2D3MF's video backbone: MARLIN, ViT-S, trained on YouTube Faces",
        ),
        Entry(
            name="marlin_vit_base_ytf",
            file="marlin_vit_base_ytf.encoder.pt",
            urls=(f"{_MARLIN}/marlin_vit_base_ytf.encoder.pt",),
            licence="CC BY-NC 4.0 (ControlNet/MARLIN)",
            labels="none; features of 768",
            input="16 frames of 224x224, every second of 25 fps, RGB in [0, 1]",
            purpose="2D3MF's video backbone: MARLIN, ViT-B, trained on YouTube Faces",
        ),
        Entry(
            name="marlin_vit_large_ytf",
            file="marlin_vit_large_ytf.encoder.pt",
            urls=(f"{_MARLIN}/marlin_vit_large_ytf.encoder.pt",),
            licence="CC BY-NC 4.0 (ControlNet/MARLIN)",
            labels="none; features of 1024",
            input="16 frames of 224x224, every second of 25 fps, RGB in [0, 1]",
            purpose="2D3MF's video backbone: MARLIN, ViT-L, trained on YouTube Faces",
        ),
        Entry(
            name="efficientface",
            file="EfficientFace_Trained_on_AffectNet7.pth.tar",
            urls=("https://drive.google.com/file/d/1nwerwDyDqC2ia1Eqa-S6lb2SipwL-hTs/view",),
            licence="MIT (zengqunzhao/EfficientFace)",
            labels="none; seven emotions, of which only the features of 1024 are used",
            input="224x224, RGB in [0, 1], mean (0.575, 0.449, 0.401), deviation (0.207, 0.190, 0.181)",
            purpose="2D3MF's video backbone: EfficientFace, trained on AffectNet-7",
            manual=True,
        ),
        Entry(
            name="audio_resnet18_ravdess",
            file="audio_resnet18_ravdess.pth",
            urls=(f"{_2D3MF}/model/audio_resnet/RAVDESS_bs_32_lr_0.001_ep_250_03-30%2022%2028%2029.pth",),
            licence="CC BY-NC 4.0 (aiden200/2D3MF)",
            labels="none; eight emotions, of which only the features of 512 are used",
            input="10 MFCC by 87 steps of one second at 44.1 kHz, by librosa",
            purpose="2D3MF's audio backbone: ResNet-18, trained on RAVDESS for 250 epochs",
        ),
        # Of the four on Hugging Face the publishers name the page; the file's name was read in programs that fetch it.
        Entry(
            name="eat_base_epoch30",
            file="EAT-base_epoch30_pretrain.safetensors",
            urls=("https://huggingface.co/worstchan/EAT-base_epoch30_pretrain/resolve/main/model.safetensors",),
            licence="MIT (cwx-worst-one/EAT)",
            labels="none; features of 768",
            input="1024 x 128 log-mel of Kaldi's definition, 16 kHz, (x + 4.268) / 9.138",
            purpose="2D3MF's audio backbone: EAT-base, pre-trained on AudioSet for 30 epochs",
        ),
        Entry(
            name="emotion2vec_base",
            file="emotion2vec_base.pt",
            urls=("https://huggingface.co/emotion2vec/emotion2vec_base/resolve/main/emotion2vec_base.pt",),
            licence="MIT by the badge of ddlBoJack/emotion2vec, which holds no licence file",
            labels="none; features of 768",
            input="sound at 16 kHz, mean 0 and deviation 1",
            purpose="2D3MF's audio backbone: emotion2vec",
        ),
        Entry(
            name="xvector_voxceleb",
            file="spkrec-xvect-voxceleb.embedding_model.ckpt",
            urls=(f"{_SPEECHBRAIN}/embedding_model.ckpt",),
            licence="Apache-2.0 (speechbrain/speechbrain)",
            labels="none; features of 512",
            input="24 mel bands in dB of sound at 16 kHz, without their mean over time",
            purpose="2D3MF's audio backbone: x-vectors, trained on VoxCeleb 1 and 2",
        ),
        Entry(
            name="xvector_voxceleb_classifier",
            file="spkrec-xvect-voxceleb.classifier.ckpt",
            urls=(f"{_SPEECHBRAIN}/classifier.ckpt",),
            licence="Apache-2.0 (speechbrain/speechbrain)",
            labels="none; 7205 speakers",
            input="an x-vector of xvector_voxceleb",
            purpose="2D3MF's audio backbone xvectors_posteriors: the speakers' posteriors",
        ),
    )
}
