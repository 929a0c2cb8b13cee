"""The workflows of the SVD family on a real host, with tiny made-up weights under the names of the published files."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.family_files import write_family
from tests.host.comfy_server import Server
from tools.workflows.build import FOLDER
from tools.workflows.library import library
from tools.workflows.prompt import to_prompt

WORKFLOWS = (
    "turntable_sv3d",
    "depth_controlnet",
    "lineart_controlnet",
    "nano_controlnet",
    "generative_inbetween",
    "motionctrl_camera",
    "cameractrl_camera",
    "character_dance",
    "video_depth",
    "orbit_from_video_depth",
)
SMALLER = {"width": 64, "height": 64, "size": 64, "longest_side": 64, "frames": 4, "steps": 2, "window": 4}
"""Values of widgets with which the tiny networks run on a CPU."""


@pytest.fixture(scope="module")
def family_server(tmp_path_factory):
    """A host with every file that the workflows name."""
    base = tmp_path_factory.mktemp("family")
    subject = Server(base)
    write_family(base / "models")
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(base / "input" / "example.png")
    try:
        yield subject.start()
    finally:
        subject.stop()


def smaller(prompt: dict) -> dict:
    """A workflow's prompt at the size of the tiny networks; a number that means a default stays."""
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if name in SMALLER and isinstance(value, int) and value > SMALLER[name]:
                node["inputs"][name] = SMALLER[name]
    return prompt


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_family_workflow_runs_with_its_own_files(family_server, name):
    workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    result = family_server.run(smaller(to_prompt(workflow, library())))
    assert result.ended == "execution_success", result.error()
    saved = [entry for output in result.outputs.values() for entry in output.get("images", [])]
    assert any(entry["filename"].endswith((".mp4", ".webp")) for entry in saved)
