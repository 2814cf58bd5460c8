"""The Dockerfile and compose.yaml name only what there is: files, commands, options, settings, extras, ports.

The steps themselves are run by docker/run-steps.sh, which needs root and some minutes.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from longleaf.app.api.command import KEYS_VARIABLE
from longleaf.app.cli import app as command_line
from longleaf.app.settings import Settings

ROOT = Path(__file__).parent.parent
DOCKERFILE = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "vllm"}
VARIABLES = {f"LONGLEAF_{name.upper()}" for name in Settings.model_fields} | {KEYS_VARIABLE}


def steps(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, flags=re.MULTILINE)


def is_known(words: list[str]) -> bool:
    """Whether the command line has this command with these options; nothing is run, as --help comes first."""
    return CliRunner().invoke(command_line, [*words, "--help"]).exit_code == 0


def test_everything_that_is_copied_is_here_and_reaches_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for step in steps("COPY") if "--from" not in step for word in step.split()[:-1]]
    assert len(copied) > 8
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name in sent, f".dockerignore keeps {name} from the builder"


def test_every_package_folder_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {Path(folder).parts[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    copied = {word for step in steps("COPY") for word in step.split()[:-1]}
    assert folders <= copied


def test_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (default,) = (step.removeprefix("EXTRAS=") for step in steps("ARG") if step.startswith("EXTRAS="))
    assert set(default.split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("file", ["Dockerfile", "compose.yaml"])
def test_the_variables_are_settings(file: str) -> None:
    named = set(re.findall(r"\bLONGLEAF_[A-Z_]+", (ROOT / file).read_text()))
    assert len(named) > 2
    assert named <= VARIABLES


@pytest.mark.parametrize("name", OURS)
def test_the_command_line_takes_what_a_service_runs(name: str) -> None:
    assert is_known(OURS[name]["command"])


def test_the_command_line_takes_what_the_image_runs() -> None:
    (command,) = steps("CMD")
    assert is_known(yaml.safe_load(command))
    assert not is_known(["app", "--hots", "0.0.0.0"])
    assert not is_known(["application"])


def test_an_open_app_is_never_without_a_password() -> None:
    assert OURS["app"]["environment"]["LONGLEAF_PASSWORD"].startswith("${LONGLEAF_PASSWORD:?")


@pytest.mark.parametrize("name", ["app", "serve"])
def test_port_published_and_asked_for_its_health_is_the_one_listened_on(name: str) -> None:
    service = OURS[name]
    port = service["command"][service["command"].index("--port") + 1]
    assert [published.rpartition(":")[2] for published in service["ports"]] == [port]
    url = service["healthcheck"]["test"][-1]
    assert f":{port}/" in url
    (of_image,) = steps("HEALTHCHECK")
    assert url in of_image
    assert port in steps("EXPOSE")[0].split()


def test_the_volumes_are_where_the_image_keeps_its_data() -> None:
    (kept,) = (yaml.safe_load(step) for step in steps("VOLUME"))
    environment = " ".join(steps("ENV"))
    for place in kept:
        assert f"={place} " in environment
    for service in OURS.values():
        assert [volume.partition(":")[2] for volume in service["volumes"]] == kept
