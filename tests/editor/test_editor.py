"""The drawn widgets: both languages read the same texts, and a real browser draws them by mouse.

The browser tests need COMFYUI_DIR (see tests/host), PLAYWRIGHT_DIR (a folder with node_modules/playwright-core), node,
and Chromium (CHROMIUM, or on the path).
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.editor_cases import PATH, cases

HERE = Path(__file__).parent
NODE = shutil.which("node")


def test_python_reads_the_shared_texts_as_the_table_says() -> None:
    found = json.loads(json.dumps(cases()))
    wanted = json.loads(PATH.read_text(encoding="utf-8"))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert close(found[name], value), f"{name} changed; run python -m tests.helpers.editor_cases"


def close(found, wanted) -> bool:
    """Whether nested values agree, numbers to 1e-6."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(close(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(close, found, wanted))
    return found == pytest.approx(wanted, abs=1e-6) if isinstance(wanted, float) else found == wanted


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_scripts_read_and_write_the_texts_of_the_widgets() -> None:
    done = subprocess.run(
        [NODE, "--test", *map(str, sorted((HERE / "logic").glob("*.test.mjs")))],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:]
