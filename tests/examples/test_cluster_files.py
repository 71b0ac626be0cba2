"""The files that start Visavox on many machines: linted, and run with stand-ins for the programs of Slurm and Kubernetes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from visavox.commands import train
from visavox.files import sha256_of

FOLDER = Path(__file__).resolve().parents[2] / "examples/cluster"
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])

SBATCH = """#!{python}
'''Slurm's program as far as submit.sh goes: runs each job of an array at once, and what depends on it if all ended well.'''
import os, re, subprocess, sys
from pathlib import Path
script, *_ = [word for word in sys.argv[1:] if not word.startswith("-")]
given = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
array = given.get("array") or (re.findall("^#SBATCH --array=(.*)", Path(script).read_text(), re.M) or [None])[0]
ended = Path({ended!r})
if "dependency" in given:
    kind, job = given["dependency"].split(":")
    if kind != "afterok" or ended.read_text() != job + " 0":
        print("never satisfied", file=sys.stderr)
        sys.exit(0)
jobs = [{{}}]
if array:
    first, last = map(int, array.split("-"))
    every = {{"MIN": first, "MAX": last, "COUNT": last - first + 1}}
    jobs = [every | {{"ID": index}} for index in range(first, last + 1)]
codes = []
for job in jobs:
    slurm = {{f"SLURM_ARRAY_TASK_{{name}}": str(value) for name, value in job.items()}}
    environment = os.environ | slurm | {{"SLURM_CPUS_PER_TASK": "1"}}
    codes.append(subprocess.run(["bash", script], env=environment, stdout=sys.stderr).returncode)
ended.write_text(f"77 {{max(codes)}}")
print("77;cluster" if "parsable" in given else "Submitted batch job 77")
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment with srun, sbatch and visavox; `said` in it is where visavox notes its words instead of obeying, if set."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "srun": '#!/usr/bin/env bash\nexec "$@"\n',
        "sbatch": SBATCH.format(python=sys.executable, ended=str(tmp_path / "ended")),
        "visavox": f"""#!/usr/bin/env bash
if [ -n "${{SAID:-}}" ]; then echo "$@" >> "$SAID"; exit "${{CODE:-0}}"; fi
exec {shlex.quote(sys.executable)} -m visavox "$@"
""",
        "python": '#!/usr/bin/env bash\nshift 2\nexec visavox "$@"\n',
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(FOLDER.parents[1]),
        "VIDEOS": "/videos",
        "BUNDLES": "/bundles",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(script: Path):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("needs shellcheck (of the extra dev)")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_array_and_its_merge_are_what_one_machine_makes(slurm: dict, talking: Path, data: Path, tmp_path: Path):
    """An array that counts from 1."""
    where = {"VIDEOS": str(talking), "BUNDLES": str(tmp_path / "out"), "WORDS": shlex.join(TINY)}
    subprocess.run([FOLDER / "submit.sh", "--array=1-3"], env=slurm | where, check=True)
    alone = data / "data/bundles"
    assert rows(tmp_path / "out") == rows(alone) and len(list((tmp_path / "out").glob("manifest.*-of-3.jsonl"))) == 3
    bundles = sorted(path.relative_to(alone) for path in alone.rglob("*.npz"))
    assert [sha256_of(alone / path) for path in bundles] == [sha256_of(tmp_path / "out" / path) for path in bundles]


def rows(folder: Path) -> list[dict]:
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_shares_whatever_the_array_counts_from(slurm: dict, tmp_path: Path):
    for number, words in enumerate((["--array=0-2"], ["--array=1-3"], [])):
        said = tmp_path / str(number)
        subprocess.run([FOLDER / "submit.sh", *words], env=slurm | {"SAID": str(said)}, check=True)
        *shares, merged = said.read_text().splitlines()
        count = len(shares)
        assert [words.split("--shard ")[1].split()[0] for words in shares] == [f"{i}/{count}" for i in range(count)]
        assert count == (8 if not words else 3) and merged == "merge /bundles"


def test_some_of_the_shares_again(slurm: dict, tmp_path: Path):
    job = {
        "SLURM_ARRAY_TASK_ID": "5",
        "SLURM_ARRAY_TASK_MIN": "3",
        "SLURM_ARRAY_TASK_MAX": "5",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    given = slurm | job | {"SAID": str(tmp_path / "said")}
    done = subprocess.run(["bash", FOLDER / "crop.sbatch"], env=given, capture_output=True, text=True)
    assert done.returncode == 2 and "gaps" in done.stderr and not (tmp_path / "said").exists()
    subprocess.run(["bash", FOLDER / "crop.sbatch"], env=given | {"SHARDS": "8", "FIRST": "1"}, check=True)
    assert "--shard 4/8" in (tmp_path / "said").read_text()


@pytest.mark.parametrize(("code", "merges"), [("1", True), ("2", False), ("143", False)])
def test_videos_without_a_face_do_not_stop_the_merge_and_a_broken_job_does(slurm: dict, tmp_path: Path, code, merges):
    given = slurm | {"SAID": str(tmp_path / "said"), "CODE": code}
    subprocess.run([FOLDER / "submit.sh", "--array=0-1"], env=given, check=True, capture_output=True)
    assert ("merge" in (tmp_path / "said").read_text()) == merges


def test_training_is_told_of_all_processes_and_goes_on(slurm: dict, tmp_path: Path):
    given = slurm | {"SAID": str(tmp_path / "said"), "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    given |= {"WORDS": "--data-version d --code-version v root_path=/shared"}
    subprocess.run(["bash", FOLDER / "train.sbatch"], env=given, check=True)
    subprocess.run(["bash", FOLDER / "train.sbatch"], env=given | {"SLURM_RESTART_COUNT": "1"}, check=True)
    first, again = (shlex.split(line) for line in (tmp_path / "said").read_text().splitlines())
    assert first[0] == "train" and first[-3:] == ["num_nodes=2", "devices=4", "strategy=ddp"]
    assert set(again) - set(first) == {"--resume"}
    parsed = train._parse(again[1:])  # the words are those of the program
    assert parsed.resume and "num_nodes=2" in parsed.overrides


def test_the_job_of_kubernetes(slurm: dict, tmp_path: Path):
    [job] = yaml.safe_load_all((FOLDER / "crop-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed" and spec["template"]["spec"]["restartPolicy"] == "Never"
    [container] = spec["template"]["spec"]["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    for code, ended in (("0", 0), ("1", 0), ("2", 1)):
        given = slurm | {"SAID": str(tmp_path / "said"), "CODE": code, "JOB_COMPLETION_INDEX": "6"}
        done = subprocess.run([*container["command"], *container["args"]], env=given)
        assert done.returncode == ended
    assert f"--shard 6/{spec['completions']} " in (tmp_path / "said").read_text()


def test_the_file_of_a_ray_cluster():
    """Against the schema that Ray checks it with."""
    ray, jsonschema = pytest.importorskip("ray"), pytest.importorskip("jsonschema")
    cluster = yaml.safe_load((FOLDER / "ray.yaml").read_text())
    jsonschema.validate(cluster, json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text()))
    starts = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    assert all("RAY_USAGE_STATS_ENABLED=0" in line for line in starts if "ray start" in line)
    assert len(cluster["provider"]["worker_ips"]) == cluster["max_workers"]
