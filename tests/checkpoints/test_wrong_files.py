"""Every kind of file in every loader: it loads, or it is called what it is and sent where it belongs."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from svd_core.checkpoints import CheckpointError, load_model
from svd_core.checkpoints.backward_motion import load_backward_motion
from svd_core.checkpoints.camera_weights import load_camera_weights
from svd_core.checkpoints.controlnet import controlnet_of, load_controlnet
from svd_core.checkpoints.family import FOREIGN, KINDS, MODEL_PLACE, PART_PLACE, adapter_kind
from svd_core.checkpoints.networks_by_name import check_networks
from svd_core.checkpoints.pose_network import load_pose_network
from svd_core.checkpoints.split import split_state_dict
from svd_core.cli.animate import add_animate
from svd_core.cli.character import add_character
from svd_core.lora import LoraError
from svd_core.lora.read import EMBEDDED, load_lora
from tests.helpers.checkpoint_files import TINY, TOWER, UNET, tiny_tensors
from tests.helpers.family_files import write_family
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule
from tests.helpers.nodes_pack import pack

# Kind of file -> how it is called, and the loaders that take it.
MODEL = f"an SVD model, {MODEL_PLACE}"
OF_IMAGES = "a ControlNet for image models, without temporal layers, which is not for SVD"
FILES = {
    "svd": (MODEL, {"model"}),
    "unet": (MODEL, {"model"}),
    "diffusers unet": (MODEL, {"model"}),
    "sv3d": (MODEL, {"model"}),
    "mimicmotion": ("a MimicMotion model, for Load SVD Model or --model, and for its pose network", {"model", "pose"}),
    "vae": (f"a VAE, {PART_PLACE}", set()),
    "image encoder": (f"an image encoder, {PART_PLACE}", set()),
    "lora": ("a LoRA, for Load SVD LoRA or --lora", {"lora"}),
    "controlnet": ("an SVD ControlNet, for Load SVD ControlNet .*models/controlnet.* --controlnet", {"controlnet"}),
    "motionctrl": ("MotionCtrl-SVD camera weights, for Load Camera Weights .* --camera-weights", {"camera"}),
    "cameractrl": ("CameraCtrl-SVD camera weights, for Load Camera Weights .* --camera-weights", {"camera"}),
    "pose net": ("a MimicMotion pose network, for Load Pose Network .* --pose-network", {"pose"}),
    "controlnext": ("a ControlNeXt-SVD pose network, for Load Pose Network .* --pose-network", {"pose"}),
    "backward motion": ("backward motion of .*, for Load In-between Weights .* --between-weights", {"between"}),
    "image controlnet": (OF_IMAGES, set()),
    "ldm controlnet": (OF_IMAGES, set()),
    "animatediff": ("an AnimateDiff motion module, which is not for SVD", set()),
    "sonic audio": ("an audio network of a talking head, such as Sonic's, which is not supported", set()),
    "strange": (r"not a known file \(1 tensors: layer.weight\)", set()),
}
REMEDIES = {
    "model": "give (an SVD file|its base model here)",
    "controlnet": "use a depth or line-art ControlNet for SVD",
    "camera": "use MotionCtrl-SVD or CameraCtrl-SVD weights",
    "pose": "use mimic_motion_pose_net.safetensors",
    "between": "use backward motion weights",
    "lora": "use a .safetensors file of a LoRA",
}
OTHERS = {
    "image controlnet": ("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"),
    "ldm controlnet": ("control_model.input_hint_block.0.weight", "control_model.zero_convs.0.0.weight"),
    "animatediff": ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight",),
    "sonic audio": [f"{layer}.{kind}" for layer in ("proj1", "proj2", "proj3") for kind in ("weight", "bias")],
    "strange": ("layer.weight",),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """One small file of every kind."""
    folder = tmp_path_factory.mktemp("files")
    write_family(folder)
    tiny = tiny_tensors()
    parts = {"unet": UNET, "vae": "first_stage_model.", "image encoder": TOWER}
    made = {name: {key: tiny[key] for key in tiny if key.startswith(start)} for name, start in parts.items()}
    made |= {name: dict.fromkeys(names, torch.zeros(1)) for name, names in OTHERS.items()}
    for name, golden, prefix in (
        ("pose net", "mimic_tiny", "pose_net."),
        ("controlnext", "controlnext_tiny", "controlnext."),
        ("diffusers unet", "depthcrafter_tiny", "unet."),
    ):
        shapes = read_golden(DATA / "family" / f"{golden}.safetensors").shapes
        made[name] = fill_by_rule({k.removeprefix(prefix): v for k, v in shapes.items() if k.startswith(prefix)}, 3)
    for name, tensors in made.items():
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / f"{name}.safetensors", TINY)
    paths = {name: folder / f"{name}.safetensors" for name in made}
    written = {"svd": "checkpoints/svd", "sv3d": "checkpoints/sv3d_p", "mimicmotion": "checkpoints/MimicMotion-fp16"}
    written |= {"controlnet": "controlnet/svd_depth", "motionctrl": "svd/motionctrl_svd"}
    written |= {"cameractrl": "svd/CameraCtrl_svdxt", "backward motion": "svd/backward_motion"}
    paths |= {name: folder / f"{file}.safetensors" for name, file in written.items()}
    return paths | {"lora": next(EMBEDDED.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def loaders(files) -> dict[str, Callable[[Path], object]]:
    config = load_model(files["svd"]).config.unet
    return {
        "model": load_model,
        "controlnet": load_controlnet,
        "camera": lambda path: load_camera_weights(path, config),
        "pose": load_pose_network,
        "between": lambda path: load_backward_motion(path, config),
        "lora": load_lora,
    }


@pytest.mark.parametrize("loader", REMEDIES)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_loads_or_is_called_what_it_is(kind, loader, files, loaders):
    words, places = FILES[kind]
    if loader in places:
        assert loaders[loader](files[kind]) is not None
        return
    with pytest.raises((CheckpointError, LoraError)) as caught:
        loaders[loader](files[kind])
    said = str(caught.value)
    assert "\n" not in said and "download" not in said
    if loader != "model" or adapter_kind(dict.fromkeys([*_names(files[kind])])) is not None:
        assert re.search(f"is {words}", said)
        assert re.search(REMEDIES[loader], said)
    else:  # the model loader says more about models
        assert re.search("give an SVD file|is not supported; use", said)


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def test_every_place_is_a_node_and_an_option():
    titles = {node.DISPLAY_NAME for node in pack().NODE_CLASS_MAPPINGS.values()}
    parser = argparse.ArgumentParser()
    add_animate(parser)
    character = argparse.ArgumentParser()
    add_character(character)
    options = {option for one in (parser, character) for action in one._actions for option in action.option_strings}
    for place in (*(kind.place for kind in KINDS), MODEL_PLACE, PART_PLACE):
        assert any(title in place for title in titles), place
        assert set(re.findall(r"--[\w-]+", place)) <= options, place


TEMPORAL = "down_blocks.0.resnets.0.temporal_res_block.conv1.weight"
STACK = "model.diffusion_model.input_blocks.1.1.time_stack.0.norm1.weight"
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
# Tensor names of public code that no SVD has, and what is said about them.
LAYOUTS = {
    "MOFA-Video": (
        ("flow_encoder.encoders.0.conv_in.weight", "controlnet_cond_embedding.conv_in.weight", TEMPORAL),
        "the ControlNet of MOFA-Video.*Cut and Drag",
    ),
    "DragAnything": (
        ("controlnet_cond_embedding.blocks_feature.0.weight", "controlnet_cond_embedding.conv_in.weight", TEMPORAL),
        "the ControlNet of DragAnything.*Cut and Drag",
    ),
    "DragNUWA": (
        ("model.diffusion_model.input_blocks.1.0.flow_cond_norm.weight", STACK), "DragNUWA.*optical flow.*Cut and Drag",
    ),
    "SV4D": (("model.diffusion_model.input_blocks.1.1.time_mix_blocks.0.norm1.weight",), "SV4D, .*use sv3d_p"),
    "SV4D 2": (
        (
            "model.diffusion_model.input_blocks.1.1.time_mix_blocks.0.norm1.weight",
            "model.diffusion_model.input_blocks.1.1.time_mixer_motion.mix_factor",
        ),
        r"SV4D 2\.0, .*use sv3d_p",
    ),
    "Sonic's UNet": ((f"{BLOCK}.attn2.processor.to_k_ip.0.weight", TEMPORAL), "Sonic.*MimicMotion or ControlNeXt"),
    "Sonic's audio": (
        tuple(f"{layer}.{kind}" for layer in ("proj1", "proj2", "proj3", "norm") for kind in ("weight", "bias")),
        "Sonic.*MimicMotion or ControlNeXt",
    ),
    "StableAnimator": ((f"{BLOCK}.attn2.processor.id_to_k.weight", TEMPORAL), "StableAnimator.*MimicMotion"),
    "Vista": (
        ("model.diffusion_model.cond_time_stack_embed.0.weight", STACK), "driving world model, such as Vista or GEM",
    ),
    "FramePainter": ((f"{BLOCK}.sparse_attention.to_q.weight", TEMPORAL), "FramePainter"),
    "Ctrl-Adapter": (("down_blocks_adapter.0.resnets.0.conv1.weight",), "Ctrl-Adapter.*trained for SVD"),
}  # fmt: skip


def meta(*names: str, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.zeros(shapes.get(name.partition(".")[0], (4,)), device="meta") for name in names}


@pytest.mark.parametrize("project", LAYOUTS)
def test_a_file_of_another_project_is_named(project):
    names, words = LAYOUTS[project]
    with pytest.raises(CheckpointError, match=f"some.safetensors is .*{words}") as caught:
        split_state_dict(meta(*names), {}, name="some.safetensors")
    assert "is not supported; use" in str(caught.value)


@pytest.mark.parametrize(
    ("channels", "words"),
    [(9, "StereoCrafter, whose UNet takes a mask as a ninth channel, which is not supported; use DepthCrafter"),
     (12, "an SVD UNet that takes a second picture or map, such as SVFR's or GeometryCrafter's, which is not supp")],
)  # fmt: skip
@pytest.mark.parametrize("first", ["conv_in.weight", "unet.conv_in.weight"])
def test_a_unet_is_known_by_the_channels_that_it_takes(channels, words, first):
    given = meta(TEMPORAL) | {first: torch.zeros(320, channels, 3, 3, device="meta")}
    with pytest.raises(CheckpointError, match=words):
        split_state_dict(given, {}, name="unet.safetensors")


def test_every_foreign_kind_has_a_case():
    said = [words for _, words in LAYOUTS.values()] + ["StereoCrafter", "SVFR"]
    for kind in FOREIGN:
        assert any(re.search(words.partition(".*")[0].replace("\\", ""), kind.what) for words in said), kind.what


def test_control_pictures_of_other_channels_are_refused_with_their_number(files):
    tensors = load_file(files["controlnet"])
    key = "controlnet_cond_embedding.conv_in.weight"
    tensors[key] = torch.zeros(len(tensors[key]), 6, 3, 3)
    with pytest.raises(CheckpointError, match="framer.*6 channels instead of 3.*use a depth or line-art"):
        controlnet_of(tensors, "framer.safetensors", head_channels=16)


def test_an_image_controlnet_is_not_called_one_for_svd():
    given = meta("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")
    with pytest.raises(CheckpointError) as caught:
        split_state_dict(given, {}, name="canny.safetensors")
    assert "SVD ControlNet" not in str(caught.value) and "ControlNet" in str(caught.value)


BY_NAME = {"controlnet": "controlnet", "camera_weights": "camera", "between_weights": "between"}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("kind", FILES)
def test_a_network_by_name_is_checked_before_a_model_is_loaded(kind, name, files):
    words, places = FILES[kind]
    given = {name: str(files[kind])}
    if BY_NAME[name] in places:
        check_networks(given)
        return
    with pytest.raises(CheckpointError, match=f"is {words}.*; {REMEDIES[BY_NAME[name]]}"):
        check_networks(given)
