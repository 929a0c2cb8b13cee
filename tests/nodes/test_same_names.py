"""What the nodes can do, Python, batches, storyboards and the command line can do: one table of names.

For every input of a node that makes or steers a clip the table gives the setting of `animate` that does the same, or
says why there is none. A new input fails here until it has a line.
"""

import argparse
import inspect
from dataclasses import dataclass

import pytest

from svd_core import api
from svd_core.cli.animate import add_animate
from svd_core.pipelines.by_name import FIELDS, parse_setting
from svd_core.pipelines.settings import SETTINGS
from svd_core.pipelines.steered import ON, STEERING
from svd_core.storyboard.panels import COLUMNS, WHOLE_FILM, parse_csv
from tests.helpers.nodes_pack import pack


@dataclass(frozen=True)
class No:
    """No counterpart, and why."""

    reason: str


SOCKET = No("carries what another node of the table makes")
PART = No("--complete-from supplies the parts of a model")
VIEW = No("belongs to the picture or the widget that the editor shows, not to the clip")
CURVE = No("a curve of ComfyUI's editor; the text beside it holds the same")
PRESET = No("fills in other inputs of the table")
BUCKET = "motion_bucket"
CLIP = {
    "model": SOCKET,
    "image": "image",
    "latent": SOCKET,
    "control": SOCKET,
    "fit": "fit",
    "background": "background",
}
CLIP |= {"vae": PART, "clip_vision": PART, "width": "width", "height": "height", "frames": "frames", "seed": "seed"}
CLIP |= {"solver": "solver", "sigmas": SOCKET, "guidance": SOCKET, "motion": SOCKET, "steps": "steps", "plan": SOCKET}
CLIP |= {"motion_bucket_id": BUCKET, "fps": "fps", "augmentation_level": "augmentation"}
CONTROLNET = ("strength", "start", "end", "mask", "sums", "numbers")

SAME: dict[str, dict[str, str | No]] = {
    "SVDReelAnimate": {},
    "SVDReelCondition": {},
    "SVDReelMotion": {"preset": PRESET},
    "SVDReelMotionMask": {
        "mask": "motion_mask",
        "strength": "mask_strength",
        "still_bucket": "still_bucket",
        "moving_bucket": "moving_bucket",
        "keep_still": "keep_still",
        "invert": "mask_invert",
        "feather": "mask_feather",
        "sigma": "mask_sigma",
        "painted": VIEW,
    },
    "SVDReelCutAndDrag": {
        "mask": "drag_mask",
        "path": "drag",
        "easing": "drag_easing",
        "scale": "drag_scale",
        "rotation": "drag_rotation",
        "strength": "drag_strength",
        "hold_background": "drag_background",
        "sigma": "drag_sigma",
        "objects": VIEW,
        "box": No("a box drawn as a mask; --drag-mask takes the mask"),
        "camera": "camera",
        "depth": "depth",
    },
    "SVDReelCameraPath": {
        **dict.fromkeys(
            ("move", "amount", "easing", "hold_start", "hold_end", "join"), No("words of the text of camera")
        ),
        "path": "camera",
        "camera": SOCKET,
        "image": VIEW,
    },
    "SVDReelCameraControl": {
        "camera": "camera",
        "mode": "camera_mode",
        "strength": "camera_strength",
        "depth": "depth",
        "depth_mask": "depth",
        "foreground": "foreground",
        "far_to_near": "camera_far_to_near",
        "sigma": "camera_sigma",
        "repeats": "camera_repeats",
        "keep": "camera_keep",
        "last_weight": "camera_last_weight",
        "refine": "camera_refine",
    },
    "SVDReelCameraWeights": {
        "camera_weights": "camera_weights",
        "strength": "camera_strength",
        "speed": "camera_speed",
        "camera": "camera",
        "poses": "camera_poses",
        "start": "camera_start",
        "end": "camera_end",
    },
    "SVDReelControlByClip": {
        "clip": "control_clip",
        "use": "control_use",
        "strength": "control_strength",
        "mask": "control_mask",
        "amount": "control_amount",
        "mode": "control_mode",
    },
    "SVDReelEditClip": {"clip": "source_clip", "denoise": "denoise", "mode": "source_mode"},
    "SVDReelControlNet": {
        "control_net": "controlnet",
        "images": "controlnet_images",
        **{name: f"controlnet_{name}" for name in CONTROLNET},
        "strength_curve": "controlnet_strength",
        "unconditional": "controlnet_conditional",
    },
    "SVDReelLineArt": {
        "images": "controlnet_lines",
        "detail": "controlnet_detail",
    },
    "SVDReelInbetween": {
        "mode": "between_mode",
        "ending": "loop",
        "end_image": "end_image",
        "strength": "between_strength",
        "exact_ends": "exact_ends",
        "between_weights": "between_weights",
        "repeats": "between_repeats",
    },
    "SVDReelLoop": {"mode": "between_mode", "strength": "between_strength"},
    "SVDReelWindows": {
        "window_frames": "windows",
        "overlap": "window_overlap",
        "rolling": "window_rolling",
        "noise": "window_noise",
        "ends": "window_ends",
        "weights": "window_weights",
        "borders": "window_borders",
    },
    "SVDReelExtend": {
        "positive": SOCKET,
        "negative": SOCKET,
        "new_frames": "extend",
        "overlap": "extend_overlap",
        "anchor": "extend_anchor",
        "colour_lock": "extend_colour_lock",
        "chunk_frames": "extend_chunk_frames",
        "repeats": "extend_repeats",
        "detail": "extend_detail",
    },
    "SVDReelMotionAmount": {
        "preset": PRESET,
        **{
            name: name
            for name in ("start_sigma", "bucket_curve", "fps_curve", "compare_bucket", "compare_with", "blur")
        },
        "soften_above": "soften_above",
        **dict.fromkeys(("bucket_from", "fps_from"), CURVE),
    },
    "SVDReelSteady": {
        **{name: name for name in ("rescale", "keep_parallel", "first_frame", "colour_anchor", "guidance_limit")},
        **{name: name for name in ("momentum", "first_frame_sigma", "anchor_sigma", "anchor_regions", "skip_guidance")},
        "picture": No("the condition without the noise of augmentation; set augmentation to 0 for that"),
    },
    "SVDReelColorMatch": {
        "frames": SOCKET,
        "strength": "match_colours",
        "method": "match_method",
        "ramp": "match_ramp",
        "smoothing": "match_smoothing",
        "reference": No("another picture; svd_core.pictures.colours.match_colours takes one"),
    },
    "SVDReelReuseFeatures": {
        "interval": "reuse",
        "depth": "reuse_depth",
        "sigma_high": "reuse_sigma_high",
        "sigma_low": "reuse_sigma_low",
    },
    "SVDReelGuidance": {
        "shape": "guidance_shape",
        "low": "min_guidance",
        "high": "max_guidance",
        "sigma_high": "guidance_sigma_high",
        "sigma_low": "guidance_sigma_low",
        "points": "guidance_points",
        "curve": CURVE,
    },
    "SVDReelSchedule": {
        "kind": "schedule",
        "sigma_max": "sigma_max",
        "sigma_min": "sigma_min",
        "sigmas": "sigmas",
        "curve": CURVE,
        "denoise": No("continues a given latent, which `svd_core.sample` takes"),
    },
    "SVDReelSampler": {
        "positive": SOCKET,
        "negative": SOCKET,
        "churn": "churn",
        "add_noise": No("continues a given latent, which `svd_core.sample` takes"),
    },
    "SVDReelDecode": {
        "frames_per_chunk": "decode",
        "tile": No("the host's memory; --memory plans tiles where they are needed"),
    },
    "SVDReelLoadLora": {
        "lora_name": "loras",
        "strength": "loras",
        "temporal_strength": "loras",
        "lora": SOCKET,
    },
}
OWN = ("image", "loras")
"""Arguments of `animate` that are no settings: the picture itself, and LoRAs (--lora, common to a batch)."""

ELSEWHERE = ("SVDReelPoses",)
"""Nodes of other commands than `animate`: character."""

KINDS = {"SVD_CONTROL", "SVD_CAMERA", "SVD_GUIDANCE", "SVD_MOTION", "SIGMAS", "LATENT"}
"""What nodes return that make a clip or steer one."""

NODES = pack().NODE_CLASS_MAPPINGS
NAMES = sorted({name for table in SAME.values() for name in table.values() if isinstance(name, str)} - set(OWN))


@pytest.fixture(scope="module")
def options() -> set[str]:
    """The names of all options of `svd-reel animate`."""
    parser = argparse.ArgumentParser()
    add_animate(parser)
    return {action.dest for action in parser._actions}


def test_every_node_that_makes_or_steers_a_clip_is_in_the_table() -> None:
    found = {name for name, node in NODES.items() if KINDS & set(node.RETURN_TYPES)}
    assert not found - {*SAME, *ELSEWHERE, "SVDReelSweep"}, "Sweep is the command lab"


@pytest.mark.parametrize("node", SAME)
def test_every_input_has_a_setting_or_a_reason(node: str) -> None:
    groups = NODES[node].INPUT_TYPES()
    inputs = {*groups["required"], *groups.get("optional", {})}
    table = {name: SAME[node].get(name, CLIP.get(name)) for name in inputs}
    assert not [name for name, same in table.items() if same is None], "give these a setting, or a reason"
    assert not set(SAME[node]) - inputs, "these inputs are gone"
    known = {*SETTINGS, *STEERING, *OWN}
    assert not [same for same in table.values() if isinstance(same, str) and same not in known]


def test_python_takes_every_name() -> None:
    own = set(inspect.signature(api.animate).parameters)
    assert set(OWN) <= own
    assert not set(NAMES) - own - set(SETTINGS) - set(STEERING)


@pytest.mark.parametrize("name", sorted({*SETTINGS, *STEERING}))
def test_the_command_line_and_rows_take_every_name(name: str, options: set[str]) -> None:
    assert (f"no_{name}" if name in ON else name) in options
    kinds = FIELDS[name]
    text = "yes" if bool in kinds else "1" if {int, float} & set(kinds) and str not in kinds else "a.png"
    assert parse_setting(name, text, "row 1") is not None


@pytest.mark.parametrize("name", sorted({*SETTINGS, *STEERING} - {"camera", "camera_strength", "camera_mode", "seed"}))
def test_storyboards_have_a_column_for_every_name_that_a_panel_may_have(name: str) -> None:
    """The four left out, and the motion bucket, are columns of their own names or of shorter ones."""
    kinds = FIELDS[name]
    text = "yes" if bool in kinds else "1" if {int, float} & set(kinds) and str not in kinds else "a.png"
    table = f"image,{name}\npicture.png,{text}\n"
    if name in WHOLE_FILM or name.startswith(("window", "extend")):
        with pytest.raises(ValueError, match=f"row 2 has a column {name}, but .*; remove the column"):
            parse_csv(table)
        return
    (panel,) = parse_csv(table)
    assert name == "motion_bucket" or panel.given == {name: parse_setting(name, text, "row 2")}
    assert "bucket" in COLUMNS
