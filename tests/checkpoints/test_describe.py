"""The description of a checkpoint without loading it: variant, frames, size, damage."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from svd_core.checkpoints import inspect_checkpoint, split_state_dict
from svd_core.checkpoints.detect import guess_variant
from svd_core.checkpoints.skeleton import skeleton
from svd_core.checkpoints.split import NETWORKS
from tests.helpers.checkpoint_files import (
    SMALL,
    SMALL_METADATA,
    folder_tensors,
    only_unet,
    small_tensors,
    tiny_tensors,
    write_folder,
)

VARIANTS = [
    ("svd.safetensors", "svd", 14),
    ("svd_image_decoder.safetensors", "svd", 14),
    ("svd_xt.safetensors", "svd_xt", 25),
    ("svd_xt_image_decoder.safetensors", "svd_xt", 25),
    ("svd_xt_1_1.safetensors", "svd_xt_1_1", 25),
    ("stable-video-diffusion-img2vid", "svd", 14),
    ("stable-video-diffusion-img2vid-xt", "svd_xt", 25),
    ("stable-video-diffusion-img2vid-xt-1-1", "svd_xt_1_1", 25),
    ("AnimateLCM-SVD-xt-1.1.safetensors", "animatelcm", 25),
    ("AnimateLCM-SVD-xt.safetensors", "animatelcm", 25),
    ("AnimateLCM-SVD-xt-1-1_fp16_comfy.safetensors", "animatelcm", 25),
    ("MimicMotionMergedUnet_1-1-fp16.safetensors", "mimicmotion", 16),
    ("controlnext-svd_v2-unet-fp16.safetensors", "controlnext", 24),
    ("DepthCrafter", "depthcrafter", 110),
    ("NormalCrafter", "normalcrafter", 14),
    ("my_next_text.safetensors", "custom", 14),
    ("holiday 1.1.safetensors", "custom", 14),
]


@pytest.mark.parametrize(("name", "variant", "frames"), VARIANTS)
def test_variant_and_frames_follow_the_name(name, variant, frames):
    unet = {key: t.to("meta") for key, t in only_unet(small_tensors()).items()}
    config = split_state_dict(unet, {"svd.head_channels": "8"}, name=name).config
    size = (576, 1024) if variant in ("mimicmotion", "controlnext") else (1024, 576)
    assert (config.variant, config.frames, config.width, config.height) == (variant, frames, *size)


def test_metadata_outranks_the_name_and_the_frame_count_stands_in_for_it():
    told = split_state_dict(small_tensors(), SMALL_METADATA | {"svd.variant": "svd"}, name="svd_xt.safetensors").config
    assert (told.variant, told.frames) == ("svd", 5)
    assert guess_variant("snapshot", 768, 25, official_size=True) == "svd_xt"
    assert guess_variant("snapshot", 768, 25, official_size=False) == "custom"
    assert guess_variant("svd_xt", 256, None, official_size=True) == "sv3d_u"
    assert guess_variant("svd_xt", 1280, None, official_size=True) == "sv3d_p"


def test_download_cache_names_the_variant(tmp_path):
    cache = tmp_path / "models--stabilityai--stable-video-diffusion-img2vid-xt" / "snapshots" / "9e43909513c6714f1bc7"
    unet = {"unet": folder_tensors(tiny_tensors())["unet"]}
    assert inspect_checkpoint(write_folder(cache, unet)).variant == "svd_xt"
    assert inspect_checkpoint(write_folder(tmp_path / "folder", unet)).variant == "custom"


def test_description_lists_damage_instead_of_raising(tmp_path):
    tensors = only_unet(small_tensors())
    for key in sorted(tensors)[5:9]:
        del tensors[key]
    tensors["model.diffusion_model.extra"] = torch.zeros(1)
    save_file(tensors, tmp_path / "damaged.safetensors", metadata=SMALL_METADATA)
    info = inspect_checkpoint(tmp_path / "damaged.safetensors")
    assert len(info.problems) == 2 and re.search(r"lacks 4 of \d+ tensors", info.text())
    assert info.parts.keys() == {"unet"} and "vae            not in this file" in info.text()


def test_embedded_model_is_a_whole_nano():
    info = inspect_checkpoint("nano")
    assert info.variant == "nano" and not info.problems
    assert info.parts.keys() == {"unet", "vae", "image_encoder"}


class Recorded(TorchDispatchMode):
    """Names of the operations inside."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(str(function).split(".")[1])
        return function(*args, **(kwargs or {}))


def test_the_shapes_of_a_model_are_made_without_drawing_or_scaling_numbers():
    # On the meta device the first such operation makes torch import its compiler, a second at every start.
    with Recorded() as recorded:
        made = [skeleton(network, getattr(SMALL, part)) for part, network in NETWORKS.items()]
    assert not recorded.names & {"uniform_", "normal_", "randn", "fill_", "mul", "uniform", "normal"}
    for network, module in zip(NETWORKS.items(), made, strict=True):
        plain = network[1](getattr(SMALL, network[0])).state_dict()
        assert {k: (v.shape, v.is_meta) for k, v in module.state_dict().items()} == {
            k: (v.shape, True) for k, v in plain.items()
        }
