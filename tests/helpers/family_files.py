"""Tiny made-up weights of the SVD family in the folders and under the names of the published files."""

from pathlib import Path

from safetensors.torch import save_file

from svd_core.checkpoints.backward_motion import motion_differences

from .checkpoint_files import TINY, tiny_tensors
from .family_golden import read_golden
from .golden_rule import DATA, fill_by_rule

HEADS = {"svd.head_channels": "16", "svd.clip_head_channels": "16"}
SMALL = HEADS | {"svd.frames": "4", "svd.width": "64", "svd.height": "64"}


def write_family(models: Path) -> None:
    """Write every file that the workflows of the family name below a folder of models."""
    for folder in ("checkpoints", "controlnet", "svd"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    for base in ("svd", "svd_xt", "svd_xt_1_1"):
        save_file(dict(tiny_tensors()), models / "checkpoints" / f"{base}.safetensors", metadata=TINY)
    for name, file, part, metadata in (
        ("svd_controlnet_tiny", "controlnet/svd_depth", "controlnet.", HEADS),
        ("svd_controlnet_tiny", "controlnet/svd_lineart", "controlnet.", HEADS),
        ("motionctrl_tiny", "svd/motionctrl_svd", "", {}),
        ("cameractrl_tiny", "svd/CameraCtrl_svdxt", "", {}),
        ("mimic_tiny", "checkpoints/MimicMotion-fp16", "", SMALL),
        ("depthcrafter_tiny", "checkpoints/diffusion_pytorch_model", "unet.", SMALL),
        ("sv3d_p_tiny", "checkpoints/sv3d_p", "", SMALL | {"svd.variant": "sv3d_p"}),
    ):
        shapes = {key.removeprefix(part): shape for key, shape in read_golden(
            DATA / "family" / f"{name}.safetensors").shapes.items() if key.startswith(part)}  # fmt: skip
        for key in (key for key in shapes if key.endswith("pos_encoder.pe")):
            shapes[key] = [1, 4, shapes[key][2]]
        save_file(fill_by_rule(shapes, 3), models / f"{file}.safetensors", metadata={**metadata, "format": "pt"})
    between = read_golden(DATA / "family" / "gen_inbetween_tiny.safetensors").shapes
    unet, tuned = ({key.removeprefix(part): shape for key, shape in between.items() if key.startswith(part)}
                   for part in ("unet.", "finetuned."))  # fmt: skip
    weights = fill_by_rule(unet, 3)
    made = motion_differences(weights | fill_by_rule(tuned, 4), weights, "tuned")
    save_file(made, models / "svd" / "backward_motion.safetensors")
