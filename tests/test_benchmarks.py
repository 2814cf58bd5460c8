"""The benchmark scripts run and end with one line of JSON; what they measure is not looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    file.stem
    for file in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
)


def output(script: str, *arguments: str) -> str:
    """What the script prints; what it says on standard error shows when it fails."""
    command = [sys.executable, "-m", f"benchmarks.{script}", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_how_to_run_it(script: str) -> None:
    assert f"python -m benchmarks.{script}" in output(script, "--help")


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["dense", "moe"])
def test_the_decoder_benchmark_measures_every_part(shape: str) -> None:
    figures = json.loads(output("decoder", "--quick", "--json", "--repeats", "1", "--threads", "1", "--shape", shape))
    assert figures.keys() == {"conditions", "prefill", "decode", "long", "products", "memory", "int8"}
    assert figures["prefill"]["relative_difference_of_logits"] < 0.05  # both sides run the same model


@pytest.mark.slow
def test_the_readings_benchmark_reuses_the_whole_document_bit_for_bit() -> None:
    *table, line = output("readings", "--quick", "--repeats", "1", "--threads", "1").splitlines()
    second = json.loads(line)["second_process"]
    assert second["logits_bit_identical"]
    assert second["reused_tokens"]["met"]
    assert any("bit identical" in row and "True" in row for row in table)
