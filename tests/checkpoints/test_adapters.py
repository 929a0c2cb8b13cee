"""Adapters at their published sizes: strict key tables, and a sentence for every other file."""

import json
import math
import re

import pytest
import torch

from svd_core.checkpoints import CheckpointError
from svd_core.checkpoints.adapters import kept_tensors, single_file_name
from svd_core.checkpoints.camera_weights import cameractrl_of, motionctrl_of
from svd_core.checkpoints.family import KINDS, adapter_kind
from svd_core.checkpoints.pose_network import pose_network_of
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import transformer_places
from tests.helpers.golden_rule import DATA

FULL = UNetConfig()
META = {"device": "meta"}


def table(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """A published key table as tensors without memory."""
    shapes = json.loads((DATA / "family" / "keys" / f"{name}.json").read_text(encoding="utf-8"))
    return {prefix + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def parameters(network: torch.nn.Module) -> int:
    return sum(math.prod(value.shape) for value in network.state_dict().values())


def cameractrl(frames: int) -> dict[str, torch.Tensor]:
    encoder = table(f"cameractrl_pose_encoder_{frames}", "pose_encoder.")
    return encoder | table("cameractrl_attention_processor", "unet.")


def motionctrl_folder() -> dict[str, torch.Tensor]:
    """What diffusers' folder of a whole MotionCtrl model calls the trained tensors."""
    folder = table("motionctrl_svd_folder_extra")
    for key, value in table("motionctrl_svd_trained").items():
        if "cc_projection" in key:
            continue
        layer = key.partition(".time_stack.0.")[2]
        place = key.removeprefix("model.diffusion_model.").partition(".1.time_stack")[0]
        match = re.fullmatch(r"(input|output)_blocks\.(\d+)|middle_block", place)
        if match[1] is None:
            start = "mid_block.attentions.0"
        else:
            block, index = divmod(int(match[2]) - (match[1] == "input"), 3)
            start = f"{'down' if match[1] == 'input' else 'up'}_blocks.{block}.attentions.{index}"
        folder[f"{start}.temporal_transformer_blocks.0.{layer}"] = value
    return folder


def test_motionctrl_is_144_tensors_in_either_naming():
    tensors = table("motionctrl_svd_trained")
    network = motionctrl_of(tensors, "motionctrl_svd", FULL, **META)
    assert len(network.state_dict()) == len(tensors) == 144 and parameters(network) == 62_929_920
    folder = motionctrl_folder()
    assert set(kept_tensors(adapter_kind(folder), folder)) == set(tensors)
    assert parameters(motionctrl_of(folder, "unet", FULL, **META)) == 62_929_920


@pytest.mark.parametrize(("frames", "encoder"), [(14, 199_360_960), (25, 199_438_400)])
def test_cameractrl_is_150_and_32_tensors(frames, encoder):
    tensors = cameractrl(frames)
    network = cameractrl_of(tensors, "cameractrl", FULL, **META)
    assert len(network.state_dict()) == len(tensors) == 182
    assert parameters(network.pose_encoder) == encoder and parameters(network) == encoder + 12_402_880
    assert network.pose_encoder.frames == frames


def test_the_rest_of_a_unet_beside_cameractrl_is_left_out():
    tensors = cameractrl(14) | {"unet.conv_in.weight": torch.empty(320, 8, 3, 3, device="meta")}
    assert len(cameractrl_of(tensors, "cameractrl", FULL, **META).state_dict()) == 182


@pytest.mark.parametrize("prefix", ["", "pose_net."])
def test_mimicmotions_pose_network_is_19_tensors_with_or_without_its_unet(prefix):
    tensors = table("mimicmotion_pose_net", prefix)
    if prefix:
        tensors["unet.conv_in.weight"] = torch.empty(320, 8, 3, 3, device="meta")
    loaded = pose_network_of(tensors, "pose_net", **META)
    assert loaded.kind == "mimicmotion" and loaded.network.channels == 320
    assert len(loaded.network.state_dict()) == 19 and parameters(loaded.network) == 205_557


def test_controlnext_is_52_tensors():
    loaded = pose_network_of(table("controlnext_svd_v2_controlnet"), "controlnext", **META)
    assert loaded.kind == "controlnext" and parameters(loaded.network) == 3_526_400
    assert len(loaded.network.state_dict()) == 52


def without(tensors: dict, key: str) -> dict:
    return {name: value for name, value in tensors.items() if name != key}


FIRST = "model.diffusion_model.input_blocks.1.1.time_stack.0."
WRONG = {
    "a tensor is missing": (
        lambda: motionctrl_of(without(table("motionctrl_svd_trained"), f"{FIRST}norm2.bias"), "x", FULL, **META),
        "1 tensors do not fit .*norm2.bias: none instead of .320",
    ),
    "another UNet": (
        lambda: motionctrl_of(table("motionctrl_svd_trained"), "x", UNetConfig(model_channels=64), **META),
        "tensors do not fit .* instead of",
    ),
    "a UNet without these blocks": (
        lambda: motionctrl_of(table("motionctrl_svd_trained"), "x", UNetConfig(attention_levels=(0, 1)), **META),
        "for which this UNet has no temporal block",
    ),
    "CameraCtrl as MotionCtrl": (
        lambda: motionctrl_of(cameractrl(14), "x", FULL, **META), "x is CameraCtrl-SVD .*; use MotionCtrl",
    ),
    "CameraCtrl without its encoder": (
        lambda: cameractrl_of(table("cameractrl_attention_processor", "unet."), "x", FULL, **META),
        "no pose encoder with positions of 1 to 1024 frames",
    ),
    "a pose network as CameraCtrl": (
        lambda: cameractrl_of(table("mimicmotion_pose_net"), "x", FULL, **META), "x is a MimicMotion .*; use",
    ),
    "ControlNeXt v1": (
        lambda: pose_network_of(table("controlnext_svd_v2_controlnet") | {"scale": torch.ones(1)}, "x", **META),
        "ControlNeXt-SVD v1.*use the v2 file",
    ),
    "MotionCtrl as poses": (
        lambda: pose_network_of(table("motionctrl_svd_trained"), "x", **META), "x is MotionCtrl-SVD camera weights",
    ),
    "a LoRA": (
        lambda: pose_network_of({"unet.a.lora_A.weight": torch.ones(1)}, "x", **META), "x is a LoRA",
    ),
    "something else": (
        lambda: pose_network_of({"layer.weight": torch.ones(1)}, "x", **META), "x is not a known file .*; use",
    ),
    "a pose network without its last layer": (
        lambda: pose_network_of(without(table("mimicmotion_pose_net", "pose_net."), "pose_net.final_proj.weight"), "x",
                                **META),
        "x lacks 'final_proj.weight', which gives the width",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_every_other_file_is_refused_in_a_sentence(case):
    load, words = WRONG[case]
    with pytest.raises(CheckpointError, match=words) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_every_kind_has_a_licence():
    from svd_core.checkpoints.licence import BY_VARIANT

    assert {kind.name for kind in KINDS} <= set(BY_VARIANT)
    assert "not commercial" in BY_VARIANT["depthcrafter"].name


def test_places_of_transformers_are_those_of_the_published_tables():
    places = {at.place: at.channels for at in transformer_places(FULL)}
    assert len(places) == 16 and places["middle", 0] == 1280
    levels = {at.place: at.level for at in transformer_places(FULL)}
    assert levels["input", 1] == levels["output", 11] == 0 and levels["output", 3] == 2 and levels["middle", 0] == 3
    for key in table("motionctrl_svd_folder_extra"):
        name = single_file_name(key)
        assert name is not None and ".time_stack.0.cc_projection." in name
