"""The containers of the service, as far as they can be held without an engine."""

import json
import re
from pathlib import Path

import yaml

from visavox.__main__ import COMMANDS
from visavox.service.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_image_is_nobodys_and_starts_the_service():
    text = (ROOT / "Dockerfile.service").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert "USER 65534:65534" in lines and lines.index("USER 65534:65534") < lines.index('CMD ["serve"]')
    assert json.loads(lines[-1].removeprefix("CMD "))[0] in COMMANDS
    names = re.findall(r"VISAVOX_SERVICE_([A-Z_]+)=", "\n".join(lines))
    assert names and {name.lower() for name in names} <= set(Settings.model_fields)


def test_the_profiles_are_read_only_and_keep_the_queue_on_the_disk():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert {name for each in services.values() for name in each.get("profiles", [])} == {"service", "worker", "metrics"}
    for name in ("service", "worker"):
        each = services[name]
        assert each["read_only"] and each["cap_drop"] == ["ALL"]
        wanted = {key.removeprefix("VISAVOX_SERVICE_").lower() for key in each["environment"]}
        assert wanted <= set(Settings.model_fields)
    assert services["worker"]["command"][0] in COMMANDS
    words = services["valkey"]["command"]
    assert words[words.index("--appendonly") + 1] == "yes" and words[words.index("--appendfsync") + 1] == "always"
    for each in services.values():
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", []))
