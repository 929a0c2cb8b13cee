"""The drawn widgets: both languages read the same texts, and a real browser draws them by mouse.

The browser tests need COMFYUI_DIR (see tests/host), PLAYWRIGHT_DIR (a folder with node_modules/playwright-core), node,
and Chromium (CHROMIUM, or on the path).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.editor_cases import PATH, cases
from tests.host.comfy_server import Server
from tools.workflows.build import build_all
from tools.workflows.library import library
from tools.workflows.prompt import to_prompt

HERE = Path(__file__).parent
WORKFLOWS = HERE.parents[1] / "workflows"
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "chromium"
PLAYWRIGHT = Path(os.environ.get("PLAYWRIGHT_DIR", "none")) / "node_modules" / "playwright-core"


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


def lacking() -> str:
    """What the browser tests lack here, in words; empty where they can run."""
    needs = {
        "COMFYUI_DIR": "COMFYUI_DIR" in os.environ,
        "node": NODE is not None,
        "PLAYWRIGHT_DIR with node_modules/playwright-core": PLAYWRIGHT.is_dir(),
        "Chromium": Path(CHROMIUM).is_file(),
    }
    return ", ".join(name for name, there in needs.items() if not there)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A ComfyUI with the pack."""
    made = Server(tmp_path_factory.mktemp("editor"))
    try:
        yield made.start()
    finally:
        made.stop()


def arguments(script: str, folder: Path) -> list[str]:
    """What a script of the browser takes besides the port and the renderer."""
    if script == "dragging":
        return [str(WORKFLOWS / "cut_and_drag.json")]
    if script == "running":
        return [str(WORKFLOWS), "nano_image_to_video,camera_pan_and_zoom"]
    if script != "opening":
        return []
    known = library()
    prompts = {name: to_prompt(workflow, known) for name, workflow in build_all(folded=False).items()}
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    return [str(WORKFLOWS), str(folder / "prompts.json")]


# 0.3.64 has no drawn widgets in its hidden experiment with Nodes 2.0; run it with COMFYUI_RENDERERS=classic.
@pytest.mark.skipif(bool(lacking()), reason=f"needs {lacking()}")
@pytest.mark.parametrize("renderer", os.environ.get("COMFYUI_RENDERERS", "classic,vue").split(","))
@pytest.mark.parametrize(
    "script",
    ["searching", "drawing", "handling", "dragging", "following", "playing", "running", "opening", "translating"],
)
def test_everything_is_drawn_by_mouse_plays_runs_and_opens(server: Server, script: str, renderer: str) -> None:
    more = arguments(script, server.base)
    environment = {**os.environ, "PLAYWRIGHT_DIR": str(PLAYWRIGHT.parents[1]), "CHROMIUM": CHROMIUM}
    done = subprocess.run(
        [NODE, str(HERE / "browser" / f"{script}.mjs"), str(server.port), renderer, *more],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        env=environment,
    )
    assert done.stdout.strip() == "OK", done.stdout[-3000:] + done.stderr[-1000:]
