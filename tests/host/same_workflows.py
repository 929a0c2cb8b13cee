"""Show that the workflows of an older checkout still run and make the same clips, in a real ComfyUI.

    COMFYUI_DIR=... COMFYUI_PYTHON=... python -m tests.host.same_workflows OLD [--steps N] [--only NAME ...] [--run]

Every JSON in OLD/workflows is sent to a server with the pack of OLD and to one with this pack. The table has the
largest difference of the decoded frames that they save, in levels of 255: 0 means equal to the bit. With `--run` the
workflows only run with this pack, and nothing is compared. The exit code is 1 if a workflow fails or differs.

The model is nano with a control scale of 1, and controls that impose motion leave the bucket as it is, so that these
defaults may change in between.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tools.same_clips import ASSETS, PICTURES, VIDEOS, difference, nano_metadata, read
from tools.workflows.library import library
from tools.workflows.prompt import to_prompt

from .comfy_server import PACK, Server
from .graphs import runnable

STEERED = ("SVDReelCameraControl", "SVDReelCutAndDrag", "SVDReelControlByClip")
NANO = "nano_control_scale_1.safetensors"


def main() -> int:
    """Read the command line, run the workflows, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--steps", type=int, help="steps of every sampling (default: what the workflow says)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--run", action="store_true", help="run them with this pack and compare nothing")
    options = parser.parse_args()
    paths = [path for path in sorted((options.old / "workflows").glob("*.json")) if not options.only or
             path.stem in options.only]  # fmt: skip
    packs = [PACK] if options.run else [options.old.resolve(), PACK]
    made = [run_all(pack, paths, options.steps) for pack in packs]
    worst = 0.0
    for path in paths:
        largest, note = compare([results[path.stem] for results in made])
        worst = max(worst, largest)
        print(f"{path.stem:32} {largest:<8.3g} {note}", flush=True)
    return int(worst > 0)


def run_all(pack: Path, paths: list[Path], steps: int | None) -> dict[str, dict[str, np.ndarray] | str]:
    """Return what each workflow saves with that pack: decoded files by node, or a text on why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), pack=pack)
        shutil.copy(ASSETS / "demo.png", server.base / "input" / "picture.png")
        save_file(
            load_file(ASSETS / "nano.safetensors"), server.base / "models" / "checkpoints" / NANO, nano_metadata()
        )
        results = {}
        try:
            info = server.start().get("/object_info")
            for path in paths:
                results[path.stem] = run_one(server, info, path, steps)
                print(
                    f"{pack.name}: {path.stem} {results[path.stem] if isinstance(results[path.stem], str) else 'ran'}",
                    flush=True,
                )
        finally:
            server.stop()
    return results


def run_one(server: Server, info: dict, path: Path, steps: int | None) -> dict[str, np.ndarray] | str:
    """Run one workflow and return its decoded files, or a text on why there are none."""
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), library())
    for node in prompt.values():
        if node["inputs"].get("model_name") in ("nano", "nano (embedded)"):
            node["inputs"]["model_name"] = NANO
        inputs = info.get(node["class_type"], {}).get("input", {})
        if "motion_bucket_id" in inputs.get("optional", {}) and node["class_type"] in STEERED:
            node["inputs"].setdefault("motion_bucket_id", -1)
        if steps and not isinstance(node["inputs"].get("steps", []), list):
            node["inputs"]["steps"] = steps
    prompt = runnable(prompt, info, NANO)
    if not prompt:
        return "skipped: this host lacks its nodes, or it needs other weights"
    try:
        result = server.run(prompt)
    except AssertionError as error:
        return f"failed: {error}"
    if result.ended != "execution_success":
        return f"failed: {result.error()}"
    saved = [
        (node, server.file(entry))
        for node, outputs in sorted(result.outputs.items())
        for entry in [*outputs.get("images", []), *outputs.get("videos", [])]
        if entry["type"] == "output"
    ]
    files = [(node, file) for node, file in saved if file.suffix in (*VIDEOS, *PICTURES)]
    return {f"{node}.{number}": value for number, (node, file) in enumerate(files) for _, value in read(file)}


def compare(results: list[dict[str, np.ndarray] | str]) -> tuple[float, str]:
    """Return the largest difference between results of one workflow, infinite where one failed, and a note."""
    for result in results:
        if isinstance(result, str):
            return 0.0 if result.startswith("skipped") else float("inf"), result
    if len(results) == 1:
        return 0.0, f"ran, {len(results[0])} files"
    old, new = results
    if old.keys() != new.keys():
        return float("inf"), f"saved {sorted(old)}, now {sorted(new)}"
    found = [difference(old[name], new[name]) for name in old]
    return max((distance for distance, _ in found), default=0.0), "; ".join(note for _, note in found if note)


if __name__ == "__main__":
    sys.exit(main())
