"""What keeps the packaging honest: folders and package list agree, and the layers only import downwards."""

import ast
import platform
import shutil
import tomllib
from pathlib import Path

import pytest

import longleaf.model

ROOT = Path(__file__).parent.parent
LAYERS = {
    "app": {"app", "retrieval", "model", "ingestion"},
    "retrieval": {"retrieval", "model", "ingestion"},
    "model": {"model"},
    "ingestion": {"ingestion"},
}


def test_the_package_list_names_every_folder() -> None:
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {
        ".".join(("longleaf", *init.parent.relative_to(ROOT).parts))
        for layer in LAYERS
        for init in (ROOT / layer).rglob("__init__.py")
    }
    assert packages == folders | {"longleaf"}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler; Longleaf runs on PyTorch alone")
def test_the_cpu_kernels_were_built() -> None:
    built = {path.name.split(".")[0] for path in Path(longleaf.model.__file__).parent.glob("_native_*.so")}
    wanted = {"_native_generic", *(["_native_avx2"] if platform.machine() == "x86_64" else [])}
    assert built >= wanted, "the compiler came after the install, or failed: run pip install -e . -v"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_itself_and_below(layer: str) -> None:
    for file in (ROOT / layer).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            for name in names:
                parts = name.split(".")
                if parts[0] == "longleaf" and len(parts) > 1 and parts[1] in LAYERS:
                    assert parts[1] in LAYERS[layer], f"{file}:{node.lineno} imports {name}"


def test_everything_that_is_pinned_lies_within_the_ranges() -> None:
    from packaging.requirements import Requirement

    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["app"], *extras["dev"], *extras["ocr"]]:
        requirement = Requirement(text)
        if requirement.name != "pip":  # the virtual environment brings its own
            assert requirement.specifier.contains(pinned[requirement.name.lower().replace("_", "-")]), text
