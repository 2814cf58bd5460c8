"""Starts the Streamlit server of `app/main.py`, on this machine only unless told otherwise."""

import os
import subprocess
import sys
from pathlib import Path

from .settings import Settings

__all__ = ["run_streamlit"]


MAX_UPLOAD_MB = 2_000
"""Uploads go to disk block by block, so their size costs no memory of ours."""


def run_streamlit(settings: Settings, address: str, port: int) -> int:
    """Runs the server until it is stopped; returns its exit code. It reports nothing home."""
    environment = os.environ | {"LONGLEAF_HOME": str(settings.home), "LONGLEAF_MODELS_DIR": str(settings.models_dir)}
    command = [
        sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("main.py")),
        f"--server.address={address}", f"--server.port={port}", "--server.headless=true",
        "--server.fileWatcherType=none", f"--server.maxUploadSize={MAX_UPLOAD_MB}", "--browser.gatherUsageStats=false",
    ]  # fmt: skip
    try:
        return subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return 0
