"""Builds the CPU kernels, once per instruction set; pyproject.toml has everything else.

Each build is optional: without a C compiler, or with one that does not know an instruction set, Longleaf installs and
runs on PyTorch alone. They are plain shared libraries, loaded by model/native.py, and are linked without an OpenMP
runtime on purpose: they use PyTorch's.
"""

import copy
import os
import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(str(path) for path in Path("model/csrc").glob("*.c"))
COMMON = ["-O3", "-g0", "-std=gnu11", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
          "-fvisibility=hidden", "-Wno-psabi"]  # fmt: skip
X86_SETS = {
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        "-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni",
        "-mavx512bf16", "-mprefer-vector-width=512",
    ],
}  # fmt: skip
SETS = {"generic": [], **(X86_SETS if platform.machine() in ("x86_64", "AMD64") else {})}


class BuildApart(build_ext):
    """Builds several sets at once, the objects of each in a folder of its own: all are made from the same sources."""

    def build_extension(self, ext: Extension) -> None:
        """As setuptools does it, elsewhere."""
        apart = copy.copy(self)
        apart.build_temp = str(Path(self.build_temp, ext.name))
        build_ext.build_extension(apart, ext)


setup(
    cmdclass={"build_ext": BuildApart},
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=[
        Extension(
            f"longleaf.model._native_{name}",
            sources=SOURCES,
            depends=["model/csrc/vectors.h"],
            extra_compile_args=[*COMMON, *flags],
            optional=True,
        )
        for name, flags in SETS.items()
    ],
)
