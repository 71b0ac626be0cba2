"""What the documents say can be typed: commands, options, settings, names, files and links that exist."""

import argparse
import importlib
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from visavox import config as configuration
from visavox.__main__ import COMMANDS, main
from visavox.bundle import Status
from visavox.weights import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STARTS = ("visavox ", "python ", "make ", "jupyter ", "docker ", "crop.py ", "train.py ", "eval.py ")


class Parsed(BaseException):
    """Ends a program once its command line is understood."""


def fenced(text: str) -> list[str]:
    """Lines of the bash blocks, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def spans(text: str) -> list[str]:
    """Code between single backquotes, outside of blocks; one may run on into the next line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(document: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return fenced(text) + [span for span in spans(text) if span.startswith(STARTS)]


@pytest.mark.parametrize("command", list(dict.fromkeys(line for name in DOCUMENTS for line in commands(name))))
def test_a_command_is_understood(command: str, monkeypatch):
    words = shlex.split(command.partition(" | ")[0])
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        assert mentioned(words.pop(0).partition("=")[0])
    match words:
        case ["visavox"]:
            assert main([]) == 0
        case ["visavox", name]:
            assert name in (*COMMANDS, "NAME")
        case ["visavox", "NAME", *_] | ["python", "-m", "visavox", *_]:
            pass
        case ["visavox", name, *arguments]:
            understood(COMMANDS[name].module, [*COMMANDS[name].before, *arguments], monkeypatch)
        case ["python", "-m", module, *arguments]:
            understood(module, arguments, monkeypatch)
        case ["python", script, *arguments] | [script, *arguments] if script.endswith(".py"):
            understood(script.removesuffix(".py"), arguments, monkeypatch)
        case ["make", *targets]:
            known = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
            assert all(target in known for target in targets if "=" not in target)
        case ["jupyter", "execute", notebook, *_]:
            assert (ROOT / notebook).is_file()
        case ["docker", "run", *rest]:
            understood("eval", rest[rest.index("visavox") + 1 :], monkeypatch)
        case ["docker", "build" | "save", *_] | ["cp", *_]:
            pass
        case ["pip", "install", *_]:
            extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
            assert set(re.findall(r"visavox\[(\w+)\]", command)) <= set(extras)
        case _:
            pytest.fail(f"{command}: this test does not know the program")


def understood(module: str, arguments: list[str], monkeypatch) -> None:
    """The module's own parser takes the words, and the settings and weights among them exist."""

    def parse(how):
        def parse_and_stop(parser, words=None, namespace=None):
            raise Parsed(how(parser, words, namespace))

        return parse_and_stop

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, parse(getattr(argparse.ArgumentParser, name)))
    try:
        importlib.import_module(module).main(arguments)
    except Parsed as stop:
        given = stop.args[0]
    except SystemExit as stop:
        assert not stop.code and "--help" in arguments, f"{module} refuses {arguments}"
        return
    configuration.load(getattr(given, "config", None) or None, getattr(given, "overrides", []))
    if module == "visavox.weights.__main__":
        assert {word for word in given.names if not word.isupper()} <= REGISTRY.keys()


def mentioned(variable: str) -> bool:
    """Whether the code knows an environment variable."""
    if variable.startswith("VISAVOX_SERVICE_"):
        from visavox.service.settings import Settings

        return variable.removeprefix("VISAVOX_SERVICE_").lower() in Settings.model_fields
    sources = [
        *ROOT.glob("*.py"),
        *ROOT.glob("visavox/*.py"),
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("tests/conftest.py"),
    ]
    return any(re.search(rf"\b{variable}\b", path.read_text(encoding="utf-8")) for path in sources)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_variables_and_files_exist(document: str):
    for span in spans((ROOT / document).read_text(encoding="utf-8")):
        if "NAME" in span or re.fullmatch(
            r"key=value|\w+=True", span
        ):  # a form; a keyword of Python's, for settings are JSON
            continue
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?=[^\s=]+( [a-z_.]+=[^\s=]+)*", span):
            configuration.load(None, span.split())
        elif re.fullmatch(r"VISAVOX_[A-Z_]+(=.*)?", span):
            assert mentioned(span.partition("=")[0]), span
        elif re.fullmatch(
            r"((visavox|configs|docs|examples|notebooks|retinaface|tests)/)?[\w.*/]+\.(py|ipynb|lock)", span
        ):
            assert [*ROOT.glob(span), *(ROOT / "visavox").glob(span)], f"{document} names {span}, which is not there"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        linked = (ROOT / document).parent / path if path else ROOT / document
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_tables_of_weights_and_of_statuses_are_true():
    rows = re.findall(r"^\| `(\w[\w.]*)` \|.*\| ([^|]+) \|$", README, re.MULTILINE)
    weights = {name: known for name, known in rows if name in REGISTRY}
    assert {"syncnet_v2", "retinaface_mobilenet0.25", "retinaface_resnet50", "timesformer_k400"} <= weights.keys()
    for name, known in weights.items():
        entry = REGISTRY[name]
        begins = f"first {len(entry.sha256_prefix)} digits known" if entry.sha256_prefix else "unverified"
        assert known == ("known" if entry.sha256 else begins), name
        assert f"| {entry.licence.split(' ')[0]} | {known} |" in README
    assert {name for name, _ in rows if name in get_args(Status)} == set(get_args(Status))


def test_the_readme_starts_with_the_two_commands():
    assert [line.split("  ")[0] for line in fenced(README)[:2]] == ["make demo", "make test"]


def test_the_table_of_commands_is_that_of_the_front_door():
    rows = dict(re.findall(r"^\| `visavox ([\w-]+)` \| (.*) \|$", README, re.MULTILINE))
    assert rows == {name: command.summary for name, command in COMMANDS.items()}


def test_the_table_of_detectors_names_every_configuration():
    table = README[README.index("## Detectors") : README.index("## What happens to a video")]
    named = set(re.findall(r"`(\w+)(?:\.json)?`", table))
    assert {name for name in configuration.shipped() if not name.endswith("tiny")} <= named
