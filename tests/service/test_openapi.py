"""H10: what /openapi.json says holds, for requests that nobody thought of: schemathesis, all checks, with links."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import VIDEO, serving, settings_of, working

HOOKS = f"""
import schemathesis

@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict) and isinstance(body.get("file"), bytes) and len(body["file"]) % 2:
        body["file"] = {VIDEO!r} + body["file"]
    return body
"""
"""Half of the files begin as videos do: no schema can say what a video is."""
CONFIG = """
[[operations]]
include-name = "POST /analyze"
checks.positive_data_acceptance.expected-statuses = ["2xx", 415, 422, 429, 503, 507]
"""


def test_every_route_describes_itself(tmp_path: Path):
    with serving(settings_of(tmp_path)) as client:
        schema = client.get("/openapi.json").json()
    wanted = {
        "/analyze",
        "/status/{id}",
        "/events/{id}",
        "/analyses/{id}",
        "/analyses/{id}/report",
        "/limits",
        "/model",
    }
    assert wanted | {"/analyses/{id}/feedback", "/healthz", "/readyz", "/metrics"} == set(schema["paths"])
    assert "HTTPValidationError" not in json.dumps(schema)
    for path in schema["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (operation["summary"], status)


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path):
    pytest.importorskip("schemathesis", reason="its extra is not installed: pip install -e .[contract]")
    settings = settings_of(tmp_path / "service", queue_length=100_000, uploads_per_client=50)
    with serving(settings) as client, working(settings):
        words = ["run", f"{client.base_url}/openapi.json".replace("//openapi", "/openapi"), "--checks", "all"]
        words += ["--max-examples", "40", "--seed", "1", "--request-timeout", "20", "--no-color"]
        command = [
            sys.executable,
            "-c",
            "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())",
        ]
        (tmp_path / "hooks.py").write_text(HOOKS)
        (tmp_path / "schemathesis.toml").write_text(CONFIG)
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
