import subprocess
import sys

import longleaf.model

HEAVY = ("torch", "transformers", "xllamacpp", "langchain_core", "tokenizers", "gguf", "numpy", "huggingface_hub")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, longleaf.model; print([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in longleaf.model.__all__:
        assert getattr(longleaf.model, name) is not None
