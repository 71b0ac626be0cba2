"""Where the features of a clip come from: a folder of them, or two backbones that are loaded when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from visavox.bundle import Bundle
from visavox.bundle.schema import read_stamp
from visavox.bundle.trim import trimming
from visavox.config import Config, TD3MFConfig
from visavox.detectors.td3mf.features import Extractor, FeatureError, FeatureFolder, Features, Stamp
from visavox.preprocessing.provenance import prep_hash

log = logging.getLogger(__name__)


class FeatureSource:
    """Where the features of bundles come from: a folder, or an extractor that is loaded when it is needed."""

    def __init__(
        self,
        settings: TD3MFConfig,
        config: Config,
        sums: Callable[[], tuple[str, str] | None],
        seen: tuple[int, ...],
        heard: tuple[int, ...],
    ) -> None:
        """Look at the folder.

        Args:
            sums: gives those of the backbones' weights that the network was trained on; None for a fresh one.
            seen, heard: shape of a step of the video, and of the sound.

        Raises:
            FeatureError: the folder holds features of other backbones, weights or settings.
        """
        self.settings, self.config, self.sums = settings, config, sums
        self.shapes = {"video": seen, "audio": heard}
        self.folder = FeatureFolder(settings.features) if settings.features else None
        self.extractor: Extractor | None = None
        self.device = ""
        self.sources: dict[str, str] = {}
        """Bundles whose stamp has been read: path -> sha256 of the video."""
        self.said = False
        if self.folder is not None and self.folder.stamp is not None:
            self.folder.require(self._expected(self.folder.stamp))

    def __call__(self, bundle: Bundle, *, keep: bool, device: str) -> Features:
        """Return the features of a bundle; with `keep`, from the folder or put there."""
        kept = self.folder if keep else None
        if kept is not None and kept.stamp is not None:
            found = kept.get(bundle.source_sha256, kept.stamp)
            if found is not None:
                return self._shaped(found)
        extractor = self._loaded(device)
        features = extractor(bundle)
        if not self.said:
            where = f"the folder {kept.folder} lacks" if kept is not None else "no folder is given for"
            log.info("making features: %s them (detector.features)", where)
            self.said = True
        if kept is not None:
            kept.add(features)
        return features

    def of_file(self, path: str) -> Features | None:
        """Return the features that the folder has of the bundle at `path`; of the bundle, only its stamp is read, once."""
        if self.folder is None or self.folder.stamp is None:
            return None
        if path not in self.sources:
            stamp = read_stamp(path)
            if stamp.prep_hash != self.folder.stamp.prep_hash:
                return None  # whoever opens it says how its settings differ
            self.sources[path] = stamp.source_sha256
        found = self.folder.get(self.sources[path], self.folder.stamp)
        return None if found is None else self._shaped(found)

    def require(self, features: Features) -> None:
        """Raise FeatureError if features are none that the network was trained on."""
        if differences := self._expected(features.stamp).differences(features.stamp):
            raise FeatureError(
                f"these features are others than the network's: {differences}; extract them as it was trained, or give the "
                "video",
                "OTHER_SETTINGS",
            )
        self._shaped(features)

    def stamp(self, device: str) -> Stamp:
        """Return the stamp of the features that are to come: the folder's, else that of the backbones, which are loaded."""
        if self.folder is not None and self.folder.stamp is not None:
            return self.folder.stamp
        return self._loaded(device).stamp

    def _shaped(self, features: Features) -> Features:
        for name, value in (("video", features.video), ("audio", features.audio)):
            if value.shape[1:] != self.shapes[name]:
                raise FeatureError(
                    f"{name} is {value.shape}, expected steps of {self.shapes[name]}; the file is not what its stamp says, "
                    "extract it again"
                )
        return features

    def _loaded(self, device: str) -> Extractor:
        if self.extractor is None or self.device != device:
            settings = self.settings
            extractor = Extractor.build(
                settings.video_backbone,
                settings.audio_backbone,
                self.config,
                steps=settings.temporal_axis,
                weights=settings.backbone_weights,
                seed=settings.backbone_seed,
                device=device,
            )
            if differences := self._expected(extractor.stamp).differences(extractor.stamp):
                raise FeatureError(
                    f"the network was trained on features of other weights: {differences}; put those in place"
                )
            if self.folder is not None:
                self.folder.require(extractor.stamp)
            self.extractor, self.device = extractor, device
        return self.extractor

    def _expected(self, stamp: Stamp) -> Stamp:
        """What features have to be stamped with; of weights that nobody has asked for yet, as `stamp` says."""
        settings = self.settings
        video, audio = self.sums() or (stamp.video_sha256, stamp.audio_sha256)
        return Stamp(
            video_backbone=settings.video_backbone,
            video_sha256=video,
            audio_backbone=settings.audio_backbone,
            audio_sha256=audio,
            steps=settings.temporal_axis,
            prep_hash=prep_hash(self.config),
            trim_silence=trimming(self.config),
        )
