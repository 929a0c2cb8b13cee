"""API forms of the main workflows: the JSON that a program sends to a server's `/prompt`, in `workflows/api/`."""

import json
from pathlib import Path
from typing import Any

from .build import FOLDER, build_all
from .library import library
from .prompt import to_prompt

API_FOLDER = FOLDER / "api"
MAIN = (
    "nano_image_to_video",
    "svd_image_to_video",
    "svd_xt_image_to_video",
    "svd_xt_1_1_image_to_video",
    "camera_pan_and_zoom",
    "motion_brush",
    "cut_and_drag",
    "edit_clip",
    "nano_controlnet",
    "first_and_last_frame",
    "seamless_loop",
    "longer_clip",
    "finish_4k",
    "low_vram_8gb",
)


def build_api_forms() -> dict[str, dict[str, Any]]:
    """Return the API form of every main workflow by name, with node titles as ComfyUI's own export writes them."""
    known, workflows = library(), build_all(folded=False)  # programs find nodes by plain numbers
    return {name: _with_titles(workflows[name], to_prompt(workflows[name], known), known) for name in MAIN}


def write_api_forms(folder: Path = API_FOLDER) -> list[Path]:
    """Write every API form, and return the files."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, prompt in build_api_forms().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(prompt, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        written.append(path)
    return written


def _with_titles(workflow: dict[str, Any], prompt: dict[str, dict], known: dict[str, Any]) -> dict[str, dict]:
    titles = {str(node["id"]): node.get("title", known[node["type"]].title) for node in workflow["nodes"]
              if str(node["id"]) in prompt}  # fmt: skip
    return {number: {**call, "_meta": {"title": titles[number]}} for number, call in prompt.items()}
