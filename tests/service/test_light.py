"""The API's process stays small: it loads no network and no decoder."""

import subprocess
import sys


def test_the_api_imports_neither_networks_nor_decoders():
    code = """
import sys
import visavox.service.api, visavox.service.desk, visavox.report.evidence
from visavox.service.settings import Settings
Settings(checkpoint='tiny_ladeda_wildrf').fingerprint()
from visavox.preprocessing.provenance import PREP_VERSION
heavy = {"torch", "pytorch_lightning", "av", "sklearn", "matplotlib", "librosa", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
