"""The containers of the service, as far as they can be held without an engine."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import yaml

from tests.serving import free_port, upload
from tests.test_image import build, files
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


def test_the_steps_of_the_image_give_a_service_that_judges(run: Path, talking: Path, tmp_path: Path):
    """Without an engine: its files where its steps put them, its environment, its entry command, its health check."""
    context = tmp_path / "context"
    context.mkdir()
    for name in ("requirements.lock", "visavox"):
        (context / name).symlink_to(ROOT / name)
    (tmp_path / "image").mkdir()
    image = build(context, tmp_path / "image", (ROOT / "Dockerfile.service").read_text(encoding="utf-8"))
    assert image.user == "65534:65534" and (image.root / "app/visavox/service/page/index.html").is_file()
    before, port = files(image.root), free_port()
    home = tmp_path / "home"  # the container's /tmp
    home.mkdir()
    own = {"CHECKPOINT": run / "best.ckpt", "HOST": "127.0.0.1", "PORT": port, "TOKEN": "t" * 16, "DISK_RESERVE": 0}
    variables = image.variables() | {f"VISAVOX_SERVICE_{name}": str(value) for name, value in own.items()}
    variables |= {"HOME": str(home), "MPLCONFIGDIR": str(home), "NUMBA_CACHE_DIR": str(home), "no_proxy": "127.0.0.1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*image.entrypoint, *image.command], cwd=image.path("."), env=variables, stderr=log, stdout=log
        )
    try:
        bearer = {"Authorization": f"Bearer {'t' * 16}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90, headers=bearer) as client:
            until = time.monotonic() + 120
            while True:
                assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
                try:
                    if client.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.2)
            assert httpx.get(f"{client.base_url}/limits").status_code == 401
            assert "<html" in client.get("/").text
            answer = upload(client, sorted(talking.rglob("*.mp4"))[0].read_bytes(), wait=60)
            assert answer.json()["status"] == "complete", answer.text
        check = [word.replace(":8000", f":{port}") for word in image.health]
        assert subprocess.run(check, cwd=image.path("."), env=variables).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert subprocess.run(check, cwd=image.path("."), env=variables, stderr=subprocess.DEVNULL).returncode != 0
    finally:
        process.kill()
    written = {path.relative_to(image.root).parts[0] for path in files(image.root) - before}
    assert written == {"data"}  # all else may be read-only


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
