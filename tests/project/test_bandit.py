"""bandit finds no known insecure pattern in the shipped code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("__init__.py", "nodes", "svd_core")


def scanned(*paths: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", *paths]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("bandit")


def test_the_shipped_code_has_no_known_insecure_pattern():
    found = scanned(*SHIPPED)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-1000:]


def test_an_insecure_pattern_would_be_found(tmp_path):
    (tmp_path / "x.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    assert scanned(str(tmp_path)).returncode == 1
