"""Every limit and address of the service, in one model: read from `VISAVOX_SERVICE_*`, shown by `GET /limits`."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20
SHORTEST_TOKEN = 16
"""Characters: fewer can be guessed."""
ACCEPTED = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".3gp", ".ts", ".mpg", ".flv", ".wmv", ".ogv")
"""Endings that the page offers to choose; what counts is the content."""


class Settings(BaseSettings):
    """Settings of API and workers. `VISAVOX_SERVICE_MAX_BYTES=1000000` sets `max_bytes`, and so on."""

    model_config = SettingsConfigDict(env_prefix="VISAVOX_SERVICE_", extra="forbid")

    checkpoint: Path
    """Checkpoint of `visavox train` or `visavox fuse`, or the name of a published model of `visavox detect --models`."""
    overrides: list[str] = []
    """`key=value` words for the checkpoint's configuration, such as `device=cpu`; of a published model `device` and `confine`."""
    folder: Path = Path("~/.cache/visavox/service")
    """Where uploads, results, feedback and the embedded queue lie; shared by all workers."""
    store: str = ""
    """Address of Redis or Valkey, `redis://HOST:PORT/DB` (extra `queue`); empty: SQLite in `folder`."""
    workers: int = Field(1, ge=0)
    """Worker processes that the service starts; 0 where `visavox worker` is started otherwise."""
    threads: int = Field(0, ge=0)
    """Threads of each worker's decoder and networks; 0: the cores shared among `workers`."""
    demo: bool = False
    """The checkpoint was trained on synthetic clips: the page says so."""

    host: str = "127.0.0.1"
    """Address to listen on. Wider than this machine only with a token."""
    port: int = Field(8000, ge=0, le=65535)
    token: SecretStr | None = None
    """What `Authorization: Bearer` has to carry, 16 characters or more; None: no token is asked for, on this machine only."""
    allowed_hosts: list[str] = []
    """Names that `Host` may have beside those of this machine. Empty with a token: any."""
    cors_origins: list[str] = []
    """Origins of other pages that may ask, such as `http://localhost:3000` of `npm run dev`."""
    trusted_proxies: list[str] = []
    """Addresses of proxies whose X-Forwarded-For is believed when uploads per client are counted."""

    max_bytes: int = Field(200 * MIB, gt=0)
    """Of an upload."""
    max_seconds: float = Field(600, gt=0)
    """Of a video."""
    max_pixels: int = Field(3840 * 2160, gt=0)
    """Of a frame, either way up."""
    max_side: int = Field(8192, gt=0)
    """The longer side of a frame, pixels."""
    min_side: int = Field(32, gt=0)
    """The shorter side of a frame, pixels."""
    max_fps: float = Field(240, gt=0)
    """Frames a second."""
    queue_length: int = Field(1000, ge=1)
    """Jobs that may wait."""
    uploads_per_client: int = Field(2, ge=1)
    """Uploads of one address that may be received at once."""
    streams: int = Field(200, ge=1)
    """Event streams that may be open at once."""
    header_seconds: float = Field(10, gt=0)
    """Until the head of a request has to be there."""
    idle_seconds: float = Field(15, gt=0)
    """Without a byte of the body, after which a request is given up."""
    min_rate: float = Field(10_000, ge=0)
    """Bytes a second that a body has to keep up on average, after its first `idle_seconds`."""
    drain_bytes: int = Field(64 * MIB, ge=0)
    """Bytes of a refused body that are read and dropped, so that its sender reads the answer."""
    disk_reserve: int = Field(1 << 30, ge=0)
    """Bytes that stay free on the disk of `folder`."""
    wait_seconds: float = Field(60, ge=0)
    """Longest time for which POST /analyze waits for the verdict."""

    lease_seconds: float = Field(15, gt=0)
    """After so long without a sign of its worker a job goes to another one."""
    tries: int = Field(3, ge=1)
    """Workers that a job may cost before it is given up."""
    batch: int | None = Field(None, ge=1)
    """Waiting jobs that a worker takes at once and judges in one call of the networks; by default 8 on a GPU, 1 on the CPU."""
    cpu_seconds: float = Field(120, gt=0)
    """Processor seconds that a job may take beside four for each second of the video; wall time is bounded by twice that."""
    memory_bytes: int = Field(2 << 30, gt=0)
    """Address space that decoding and judging a job may take beyond the loaded networks."""
    grace_seconds: float = Field(10, ge=0)
    """For the job at hand after SIGTERM; then it goes back to the queue."""
    retention_minutes: float = Field(60, ge=0)
    """After its end an upload is kept for so long, then deleted."""
    result_hours: float = Field(168, ge=0)
    """After its end an analysis can be read for so long."""

    @model_validator(mode="after")
    def _token_where_bound_wider(self) -> Self:
        self.folder = self.folder.expanduser()
        if self.token is None and not is_loopback(self.host):
            raise ValueError(
                f"host={self.host} can be reached from other machines: set a token (VISAVOX_SERVICE_TOKEN=...), or listen "
                "on 127.0.0.1"
            )
        if self.token is not None:
            word = self.token.get_secret_value()
            if not (word.isascii() and word.isprintable() and word == word.strip() and len(word) >= SHORTEST_TOKEN):
                raise ValueError(
                    f"the token has {len(word)} characters: give {SHORTEST_TOKEN} or more, printable ASCII without a space at "
                    'either end (python -c "import secrets; print(secrets.token_urlsafe())"), or none at all'
                )
        return self

    @property
    def model(self) -> str:
        """The published model's name, where `checkpoint` is no file."""
        return str(self.checkpoint)

    def fingerprint(self) -> str:
        """Return the sha256 of the weights that judge.

        Raises:
            FileNotFoundError: there is neither such a file nor such a published model.
            ConfigError: the overrides do not fit a published model.
        """
        from visavox import weights
        from visavox.detectors.published.catalogue import MODELS
        from visavox.files import sha256_of

        if self.checkpoint.is_file():
            return sha256_of(self.checkpoint)
        if self.model in MODELS or self.model == "default":
            self.of_published()
        if self.model == "default":  # its parts are those that are at hand: who has loaded them knows (`child.origin`)
            return hashlib.sha256(b"default").hexdigest()
        if self.model not in MODELS:
            raise FileNotFoundError(
                f"{self.checkpoint}: no such checkpoint, and no published model of that name; `visavox train` makes a "
                "checkpoint, `visavox detect --models` lists the models"
            )
        return weights.fingerprint(MODELS[self.model].weights[0])

    def of_published(self) -> dict[str, str]:
        """Return the overrides of a published model, which has no configuration beside its device and its decoder's.

        Raises:
            ConfigError: there are others.
        """
        from visavox.config import ConfigError

        known = {"device": ("auto", "cuda", "cpu"), "confine": ("auto", "require")}
        found = dict(word.partition("=")[::2] for word in self.overrides)
        for name, value in found.items():
            if value not in known.get(name, ()):
                takes = ", ".join(f"{key}={'|'.join(values)}" for key, values in known.items())
                raise ConfigError(f"{name}={value}: {self.model} is a published model, which takes {takes} alone")
        return found

    def calibration(self) -> str:
        """Return the sha256 of the calibration that `visavox calibrate` fitted for the model; empty where there is none."""
        from visavox.detectors.published.catalogue import calibration_of
        from visavox.files import sha256_of

        fitted = calibration_of(self.model)
        return sha256_of(fitted) if fitted.is_file() else ""

    def versions(self) -> list[object]:
        """Return the versions of the code and of what was fitted to labelled clips: other ones make other results."""
        from visavox import __version__
        from visavox.preprocessing.provenance import PREP_VERSION

        return [__version__, PREP_VERSION, self.calibration()]

    def environment(self) -> dict[str, str]:
        """Return these settings as the variables that they are read from, for processes that are to have the same."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.token is not None:
            values["token"] = self.token.get_secret_value()
        return {
            f"VISAVOX_SERVICE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }

    def limits(self) -> dict[str, Any]:
        """Return what `GET /limits` answers."""
        return {
            "maxBytes": self.max_bytes,
            "maxSeconds": self.max_seconds,
            "maxPixels": self.max_pixels,
            "maxSide": self.max_side,
            "minSide": self.min_side,
            "maxFps": self.max_fps,
            "queueLength": self.queue_length,
            "uploadsPerClient": self.uploads_per_client,
            "accept": list(ACCEPTED),
            "retentionMinutes": self.retention_minutes,
        }


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own, which no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
