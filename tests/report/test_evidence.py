"""The evidence page of a clip: complete, closed in itself, and deaf to what a file's name would have it do."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from visavox.detectors.analysis import (
    NOTHING,
    Analysis,
    Branch,
    Calibrated,
    Counterfactual,
    LeftOut,
    ModelCard,
    Novelty,
    Segment,
    Weighed,
    json_schema,
)
from visavox.report.evidence import Observation, calibration, page, sentence
from visavox.report.observations import manifest, observe

ROOT = Path(__file__).parents[2]


class Read(HTMLParser):
    """The words of a page, what it would load, and whether its tags close."""

    def __init__(self, text: str):
        super().__init__()
        self.words, self.loaded, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "line", "rect", "polyline", "br", "wbr"):
            self.open.append(tag)
        self.loaded += [value for key, value in attributes if key in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag):
        if tag not in ("line", "rect", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def analysis(**changes) -> Analysis:
    line = [Segment(i / 2, i / 2 + 0.5, p) for i, p in enumerate((0.2, 0.4, 0.7, 0.9))]
    given = {
        "probability": 0.75,
        "card": ModelCard("default", checkpoint="c" * 64, trained_on="drawn faces"),
        "branches": [Branch("face", 0.8, 0.5, 1.25, line), Branch("voice", 0.65, 0.5, 0.5), Branch("sync", None, 0, 0)],
        "timeline": line,
        "notes": ["the sound begins late"],
        "ledger": [Weighed("face", 1.386), Weighed("voice", 0.619), Weighed("calibration", -0.906)],
        "degraded": [LeftOut("sync", "no weights")],
        "counterfactuals": [Counterfactual("face", 0.65), Counterfactual("sync", None)],
    } | changes
    return Analysis.of(given.pop("probability"), **given)


def words_of(text: str) -> str:
    return " ".join(" ".join(Read(text).words).split())


def test_everything_that_an_analysis_holds_stands_on_its_page():
    text = words_of(
        page(
            analysis(
                calibrated=Calibrated("our clips", 240, "2026-05-01"), novelty=Novelty(3.5, 0.995, "real clips", 90)
            ),
            name="clip.mp4",
            observations=[Observation("container", "matroska", "made by a program")],
            stages={"decode": 1.25},
            origin={"commit": "abc123", "empty": ""},
        )
    )
    for part in (
        *(
            "Called fake",
            "0.750",
            "2 of 2 parts say fake (face, voice)",
            "Calibrated on our clips, 240 clips, 2026-05-01",
        ),
        *("Left out: sync. no weights", "farther out than 99.5 % of 90 clips (real clips)", "1.0 to 2.0"),
        *("+1.386", "-0.906", "-0.100", "the sound begins late", "matroska made by a program", "decode 1.25", "abc123"),
        *("drawn faces", "c" * 64, "never part of the score"),
    ):
        assert part in text, part
    assert "empty" not in text


def test_the_page_loads_nothing_and_obeys_no_name():
    name = "a\x1b[2J<script>alert(1)</script>\u202e.mp4"
    text = page(analysis(notes=["<img src=x onerror=alert(1)>"]), name=name)
    read = Read(text)
    assert not read.loaded and not read.open and "<script" not in text and "<img" not in text
    assert not re.search(r"https?://|url\(|@import", text) and "\x1b" not in text and "\u202e" not in text


def test_it_says_that_an_uncalibrated_number_is_no_frequency():
    assert "Uncalibrated: the number is a score" in words_of(page(analysis(), name="a.mp4"))


def test_what_a_model_says_of_its_calibration_stands_beside_its_uncalibrated_number():
    card = ModelCard("pair", calibration="uncalibrated as a whole; of its branches video: platt")
    given = Analysis.of(0.7, card=card, branches=[Branch("video", 0.7, 1.0, 0.0)])
    assert calibration(given).endswith("Its model: uncalibrated as a whole; of its branches video: platt.")
    assert "Its model" not in calibration(replace(given, card=ModelCard("pair")))


def test_without_anything_to_judge_by_there_is_no_verdict():
    nothing = analysis(
        probability=0.5, undecided=NOTHING, branches=[Branch("face", None, 0, 0)], timeline=[], ledger=[]
    )
    assert nothing.verdict == "undetermined" and sentence(nothing).startswith("No part of the detector")
    text = page(nothing, name="a.mp4")
    assert "No verdict" in text and "<svg" not in text


def test_the_published_schema_is_that_of_the_code():
    """`python -c` with `json_schema` writes it; docs/evaluation.md names it."""
    assert json.loads((ROOT / "docs" / "analysis.schema.json").read_text()) == json_schema()


def test_an_analysis_with_evidence_comes_back_from_its_json():
    whole = analysis(calibrated=Calibrated("x", 3, "2026-01-01"), novelty=Novelty(1.0, 0.5, "x", 3))
    assert Analysis.from_json(whole.to_json()) == whole
    before = {key: value for key, value in json.loads(whole.to_json()).items() if key in json_schema()["required"]}
    assert Analysis.from_json(json.dumps(before)).ledger == []  # one written before there was a ledger
    written = json.loads(whole.to_json())
    assert set(written) == set(json_schema()["properties"])


def test_what_a_video_says_of_itself(talking: Path):
    video = sorted(talking.rglob("*.mp4"))[0]
    facts = {each.name: each.value for each in observe(video)}
    assert facts["video"].startswith("h264, ") and "25.000 frames a second" in facts["video"]
    assert facts["bytes"] == f"{video.stat().st_size:,}" and "Hz" in facts["sound"]
    assert list(facts)[-1] == "C2PA manifest"


def test_a_manifest_is_read_and_its_absence_proves_nothing(tmp_path: Path):
    pytest.importorskip("c2pa", reason="the extra `provenance`")
    import c2pa

    plain, signed = tmp_path / "plain.jpg", tmp_path / "signed.jpg"
    cv2.imwrite(str(plain), np.full((64, 64, 3), 127, np.uint8))
    assert manifest(plain).value == "none" and "absence proves nothing" in manifest(plain).note
    chain, key = certificate()
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    created = {"action": "c2pa.created", "digitalSourceType": source}
    claim = {
        "claim_generator_info": [{"name": "made-up camera", "version": "1"}],
        "title": "x",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
    }
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))
    c2pa.Builder.from_json(json.dumps(claim)).sign_file(plain, signed, signer)
    found = manifest(signed)
    assert "made by made-up camera 1" in found.value and "Visavox Test" in found.value and "created" in found.value
    assert "untrusted" in found.note and "not what is true" in found.note
    changed = bytearray(signed.read_bytes())
    changed[-40] ^= 0xFF
    signed.write_bytes(changed)
    assert "Invalid" in manifest(signed).note and "mismatch" in manifest(signed).note


def certificate() -> tuple[bytes, bytes]:
    """A chain of two made-up certificates, PEM, and the key of the first."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(name: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Visavox Test"),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, name),
            ]
        )

    now = datetime.datetime.now(datetime.UTC)

    def make(subject: str, key, issuer: str, issuer_key, ca: bool) -> x509.Certificate:
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        built = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if not ca:
            built = built.add_extension(
                x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True
            )
        return built.sign(issuer_key, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = make("root", root_key, "root", root_key, True)
    leaf = make("Visavox Test camera", key, "root", root_key, False)
    chain = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (leaf, root))
    plain = serialization.NoEncryption()
    return chain, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
