"""The official key tables: our networks load every published layout, and headers reproduce the published sizes."""

import json
import math
from collections.abc import Mapping

import pytest
import torch

from svd_core.checkpoints import inspect_checkpoint, split_state_dict
from svd_core.checkpoints.controlnet import controlnet_of
from svd_core.checkpoints.names import image_encoder_from_folder, unet_from_folder, vae_from_folder
from svd_core.networks.config import SVDConfig, UNetConfig, VAEConfig
from svd_core.networks.image_encoder import ImageEncoder
from svd_core.networks.unet import UNet
from svd_core.networks.vae import VAE
from tests.helpers.checkpoint_files import header_bytes, write_hollow
from tests.helpers.golden_rule import DATA, key_table

NETWORKS = {"unet": UNet, "vae": VAE, "image_encoder": ImageEncoder}
UNET, TOWER, FIRST = (
    "model.diffusion_model.",
    "conditioner.embedders.0.open_clip.model.visual.",
    "first_stage_model.",
)
FOLDER = [f"svd_xt_diffusers_{part}" for part in NETWORKS]
TOWER_COUNT, FRAME_VAE = 632_076_800, 83_653_863
# table(s): parameters of UNet and VAE, stored tensors that nothing uses
OFFICIAL = {
    ("svd_xt",): (1_524_623_082, 97_742_847, 252),
    ("svd_xt_image_decoder",): (1_524_623_082, FRAME_VAE, 254),
    ("sv3d_u",): (1_523_967_722, FRAME_VAE, 144),
    ("sv3d_p",): (1_525_278_442, FRAME_VAE, 144),
    tuple(FOLDER): (1_524_623_082, 97_742_847, 0),
}


def on_meta(*tables: str) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for table in tables for key, shape in key_table(table).items()}


def count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize("tables", OFFICIAL, ids=lambda tables: tables[0])
def test_networks_take_official_state_dicts_whole(tables):
    unet, vae, unused = OFFICIAL[tables]
    parts = split_state_dict(on_meta(*tables), {}, name="official")
    counts = {name: count(part.shapes) for name, part in parts.present().items()}
    assert counts == {"unet": unet, "vae": vae, "image_encoder": TOWER_COUNT}
    assert sum(map(len, parts.report.unused.values())) == unused
    for name, part in parts.present().items():
        module = NETWORKS[name](getattr(parts.config, name), device="meta")
        module.load_state_dict(part, strict=True, assign=True)
        assert sum(p.numel() for p in module.parameters()) == counts[name]


def test_leftovers_of_the_video_file_are_the_known_252():
    unused = split_state_dict(on_meta("svd_xt"), {}, name="svd_xt").report.unused
    known = key_table("sgm_to_diffusers")["only_in_single_file"].values()
    assert sorted(map(sorted, unused.values())) == sorted(map(sorted, known))


def test_sizes_read_from_shapes_are_the_official_ones():
    parts = split_state_dict(on_meta("svd_xt"), {}, name="svd_xt.safetensors")
    assert parts.config == SVDConfig(variant="svd_xt", frames=25)
    folder = split_state_dict(on_meta(*FOLDER), {}, name="svd_xt.safetensors")
    assert folder.config == parts.config
    assert folder.report.layout == "folder" and parts.report.layout == "single file"
    frame = split_state_dict(on_meta("svd_xt_image_decoder"), {}, name="x").config.vae
    assert frame == VAEConfig(temporal=False, post_quant_conv=True)


def test_sv3d_decodes_with_the_conditioner_autoencoder():
    parts = split_state_dict(on_meta("sv3d_u"), {}, name="")
    assert all(key.startswith("conditioner.embedders.1.encoder.") for key in parts.vae.sources())
    assert parts.config.vae == VAEConfig(temporal=False, post_quant_conv=True)
    assert (parts.config.variant, parts.config.frames, parts.config.width) == ("sv3d_u", 21, 576)


def test_encoder_with_its_1x1_convolution_is_the_conditioners():
    for table in ("svd_xt", "svd_xt_image_decoder"):
        sources = split_state_dict(on_meta(table), {}, name="").vae.sources()
        encoder = [key for key in sources if ".encoder.encoder." in key or "quant_conv" in key]
        assert sum(key.startswith("conditioner.embedders.3.encoder.encoder.") for key in encoder) == 106
        assert "conditioner.embedders.3.encoder.quant_conv.weight" in encoder


def test_folder_names_of_the_unet_follow_the_rule():
    for single, folder in key_table("sgm_to_diffusers")["unet"].items():
        assert unet_from_folder(folder, 2, frozenset({1, 2, 3})) == single.removeprefix(UNET)


@pytest.mark.parametrize("table", ["vae", "vae_encoder_alternative", "frame_autoencoder"])
def test_folder_names_of_the_autoencoder_follow_the_rule(table):
    for single, folder in key_table("sgm_to_diffusers")[table].items():
        name = single.removeprefix(FIRST).removeprefix("conditioner.embedders.3.encoder.")
        assert vae_from_folder(folder, 4) == name


def test_folder_names_of_the_image_encoder_follow_the_rule():
    for single, targets in key_table("sgm_to_diffusers")["image_encoder"].items():
        for place, (folder, _) in enumerate(targets):
            assert image_encoder_from_folder(folder) == (single.removeprefix(TOWER), place)


def test_names_that_follow_no_rule_are_not_guessed():
    strange = ["down_blocks.0.resnets.0.spatial_res_block.norm9.weight", "mid_block.motion_modules.0.x", "x"]
    assert [unet_from_folder(key, 2, frozenset()) for key in strange] == [None] * 3
    assert [vae_from_folder(f"decoder.{key}", 4) for key in ("mid_block.attentions.0.to_z.weight", "z")] == [None] * 2
    assert image_encoder_from_folder("vision_model.encoder.layers.0.self_attn.z_proj.weight") is None


def test_an_svd_controlnet_of_the_published_names_loads_strictly():
    loaded = controlnet_of(on_meta("svd_controlnet"), "svd_depth", device="meta")
    assert loaded.config == UNetConfig()
    assert sum(t.numel() for t in loaded.network.state_dict().values()) == 682_021_537
    assert len(loaded.network.state_dict()) == len(key_table("svd_controlnet")) == 671


def family_table(name: str) -> dict[str, list[int]]:
    """A key table of the wider family: of its own, or made of the UNet's as the specifications say."""
    if name == "mimicmotion_whole":
        unet = {f"unet.{key}": shape for key, shape in key_table("svd_xt_diffusers_unet").items()}
        return unet | {f"pose_net.{key}": shape for key, shape in family_table("mimicmotion_pose_net").items()}
    if name == "motionctrl_unet":
        return key_table("svd_xt_diffusers_unet") | family_table("motionctrl_svd_folder_extra")
    path = DATA / "family" / "keys" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else key_table(name)


@pytest.mark.parametrize(
    ("table", "dtype", "metadata", "published"),
    [
        ("mimicmotion_whole", "F16", {"format": "pt"}, 3_049_855_886),
        ("mimicmotion_pose_net", "F16", {"format": "pt"}, 412_730),
        ("controlnext_svd_v2_controlnet", "F16", {"format": "pt"}, 7_057_480),
        ("motionctrl_unet", "F16", {"format": "pt"}, 3_074_545_900),
        ("svd_controlnet", "F32", {"format": "pt"}, 2_728_174_212),
        ("svd_controlnet", "F16", {"format": "pt"}, 1_364_130_618),
        ("sv3d_u", "F32", None, 9_363_963_100),
        ("sv3d_p", "F32", None, 9_369_205_980),
        ("svd_xt", "F32", None, 9_559_625_980),
        ("svd_xt_image_decoder", "F32", None, 9_503_252_964),
        ("svd_xt_diffusers_unet", "F32", {"format": "pt"}, 6_098_682_464),
        ("svd_xt_diffusers_unet", "F16", {"format": "pt"}, 3_049_435_868),
        ("svd_xt_diffusers_vae", "F32", {"format": "pt"}, 391_017_740),
        ("svd_xt_diffusers_vae", "F16", {"format": "pt"}, 195_531_910),
        ("svd_xt_diffusers_image_encoder", "F32", {"format": "pt"}, 2_528_371_296),
        ("svd_xt_diffusers_image_encoder", "F16", {"format": "pt"}, 1_264_217_240),
    ],
)
def test_tables_reproduce_published_file_sizes(table, dtype, metadata, published):
    start, data = header_bytes(family_table(table), dtype, metadata)
    assert len(start) + data == published


def test_full_size_file_is_described_from_its_header(tmp_path):
    path = write_hollow(tmp_path / "svd_xt_1_1.safetensors", key_table("svd_xt"))
    info = inspect_checkpoint(path)
    assert (info.size, info.tensors, info.parameters) == (9_559_625_980, 2446, 2_389_819_785)
    assert (info.variant, info.layout, info.config.frames) == ("svd_xt_1_1", "single file", 25)
    assert info.parts["unet"].parameters == 1_524_623_082 and info.parts["unet"].dtypes == {"float32": 1428}
    assert sum(info.unused.values()) == 252 and not info.problems
    for expected in ("svd_xt_1_1", "9,559,625,980", "1,524,623,082", "temporal decoder", "106 tensors"):
        assert expected in info.text()
