"""The camera LoRA inside the pack, at the strengths of the workflow that shows it: it turns the camera both ways."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import svd_core as svd
from svd_core.lora import apply_loras, load_lora
from svd_core.report import measure

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "svd_core" / "assets"
GUIDANCE_MODES = {"Camera to the left": 1, "Camera to the right": -1}


@pytest.mark.parametrize("title", GUIDANCE_MODES)
def test_the_workflow_of_the_camera_lora_turns_the_camera_as_its_nodes_say(title):
    workflow = json.loads((ROOT / "workflows" / "lora_camera_move.json").read_text(encoding="utf-8"))
    node = next(node for node in workflow["nodes"] if node.get("title") == title)
    _, strength, temporal_strength = node["widgets_values"]
    lora = load_lora(ASSETS / "loras" / "nano_pan_left.safetensors")
    model = apply_loras(svd.load_model("nano"), [(lora, strength, temporal_strength)])
    photograph = Image.open(ASSETS / "demo.png").convert("RGB")
    with torch.inference_mode():
        told = measure(svd.animate(model, photograph, svd.AnimateSettings(steps=10, seed=23)))
    # What a camera that goes left sees goes right: about 1.3 and -1.5 pixels a frame, -0.15 without the LoRA.
    assert GUIDANCE_MODES[title] * sum(told.pan_x) / len(told.pan_x) > 0.8
