"""Converted checkpoints: every value is kept or rounded as requested, in both layouts, written whole or not at all."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from svd_core.checkpoints import CheckpointError, inspect_checkpoint, load_model, read_state_dict, split_state_dict
from svd_core.checkpoints.convert import convert
from svd_core.checkpoints.licence import licence_of
from svd_core.cli.main import main
from tests.helpers.checkpoint_files import (
    SMALL_METADATA,
    TINY,
    folder_tensors,
    same_weights,
    small_tensors,
    tiny_tensors,
)

NETWORKS = ("unet", "vae", "image_encoder")
ALL_BLENDED = 3e-4  # relative; a folded 1x1 map sums in another order, here in float32


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "svd_xt_tiny.safetensors"
    save_file(dict(tiny_tensors()), path, metadata={**TINY, "author": "someone"})
    return path


@pytest.fixture(scope="module")
def folder(tiny) -> Path:
    return convert(tiny, tiny.parent / "as_folder")


@pytest.fixture(scope="module")
def model(tiny):
    """The original model, which tests must not change."""
    return load_model(tiny)


def weights(path: Path) -> dict[str, torch.nn.Module]:
    model = load_model(path, dtype=None)
    return {name: model.part(name) for name in NETWORKS}


def test_both_ways_and_back_give_the_same_weights_bit_for_bit(tiny, folder, model):
    single = convert(folder, tiny.parent / "and_back.safetensors")
    again = convert(single, tiny.parent / "folder_again")
    wanted = {name: model.part(name) for name in NETWORKS}
    for path in (folder, single):
        found = weights(path)
        assert all(same_weights(found[name], wanted[name]) for name in NETWORKS)
    for name in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "image_encoder/model"):
        first, last = (load_file(path / f"{name}.safetensors") for path in (folder, again))
        assert first.keys() == last.keys() and all(torch.equal(first[key], last[key]) for key in first)


def test_the_folder_has_the_official_names_and_values(folder):
    for part, wanted in folder_tensors(tiny_tensors()).items():
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        found = load_file(folder / part / f"{stem}.safetensors")
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_the_single_file_has_the_names_of_the_official_files(tiny, folder):
    single = convert(folder, tiny.parent / "named.safetensors")
    kept = {key for part in split_state_dict(read_state_dict(tiny)).present().values() for key in part.sources()}
    extra = set(read_state_dict(single)) - kept
    # For the host: the encoder where it looks for one.
    assert kept <= set(read_state_dict(single)) and all(key.startswith("first_stage_model.encoder.") for key in extra)


def test_what_was_read_from_the_name_is_kept_under_another_name(tiny, folder):
    for path in (folder, convert(tiny, tiny.parent / "renamed.safetensors")):
        info = inspect_checkpoint(path)
        assert info.variant == "svd_xt" and not info.problems
        assert (info.config.frames, info.config.width, info.config.height) == (4, 64, 64)
        assert info.metadata["author"] == "someone" and info.metadata["svd.changes"].startswith("made of")


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_precisions_round_each_value_once(tiny, model, dtype):
    path = convert(tiny, tiny.parent / f"in_{dtype}.safetensors", dtype=dtype)
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    assert set(inspect_checkpoint(path).dtypes) == {str(wanted).removeprefix("torch.")}
    for name, module in weights(path).items():
        before = model.part(name).state_dict()
        assert all(torch.equal(value, before[key].to(wanted)) for key, value in module.state_dict().items())


def test_eight_bits_are_for_the_matrices_of_the_unet_and_load(tiny, model):
    path = convert(tiny, tiny.parent / "in_fp8.safetensors", dtype="fp8")
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118  no mapping
            tensor = file.get_tensor(key)
            eight = key.startswith("model.diffusion_model.") and tensor.ndim > 1
            assert tensor.dtype == (torch.float8_e4m3fn if eight else torch.float16)
    unet, before = load_model(path).unet.state_dict(), model.unet.state_dict()
    key = "input_blocks.0.0.weight"
    # Three bits of mantissa: a sixteenth of each value.
    assert torch.allclose(unet[key], before[key], rtol=1 / 16, atol=2**-9)


def test_eight_bits_end_at_their_largest_number(tmp_path):
    tensors = dict(tiny_tensors())
    key = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[key] = tensors[key] * 1e9
    save_file(tensors, tmp_path / "large.safetensors", metadata=TINY)
    path = convert(tmp_path / "large.safetensors", tmp_path / "in_fp8.safetensors", dtype="fp8")
    assert load_file(path)[key].float().abs().max() == torch.finfo(torch.float8_e4m3fn).max


def test_one_part_is_saved_under_the_names_that_its_loaders_read(tiny, model):
    vae = load_file(convert(tiny, tiny.parent / "vae.safetensors", part="vae"))
    assert "decoder.conv_in.weight" in vae and not any("quant_conv" in key for key in vae)
    tower = load_file(convert(tiny, tiny.parent / "tower.safetensors", part="image_encoder"))
    assert "vision_model.embeddings.class_embedding" in tower
    unet = convert(tiny, tiny.parent / "unet.safetensors", part="unet")
    assert same_weights(load_model(unet, complete_from=tiny).unet, model.unet)
    latent = tiny.parent / "vae.safetensors"
    parts = split_state_dict(read_state_dict(latent))
    assert parts.unet is None and parts.config.vae.temporal


@torch.no_grad()
def test_the_folded_encoder_encodes_as_the_one_it_was_made_of(tiny):
    vae = load_file(convert(tiny, tiny.parent / "folded.safetensors", part="vae"))
    model = load_model(tiny)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    wanted = model.vae.encode(image)
    encoder = model.vae.encoder
    encoder.load_state_dict({key[8:]: value for key, value in vae.items() if key.startswith("encoder.")})
    found = encoder(image)[:, :4]
    assert (found - wanted).norm() <= ALL_BLENDED * wanted.norm()


def test_the_folder_loads_in_diffusers(folder):
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    classes = (
        ("unet", diffusers.UNetSpatioTemporalConditionModel),
        ("vae", diffusers.AutoencoderKLTemporalDecoder),
        ("image_encoder", transformers.CLIPVisionModelWithProjection),
    )
    for name, kind in classes:
        module = kind.from_pretrained(folder / name, low_cpu_mem_usage=False)
        stem = "model" if name == "image_encoder" else "diffusion_pytorch_model"
        found, wanted = module.state_dict(), load_file(folder / name / f"{stem}.safetensors")
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    scheduler = diffusers.EulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    scheduler.set_timesteps(5)
    assert float(scheduler.sigmas[0]) == pytest.approx(700.0)


def test_a_notice_lies_beside_every_file(tiny, folder):
    beside = convert(tiny, tiny.parent / "noted.safetensors", dtype="bf16").with_name("noted.NOTICE.txt")
    for path in (beside, folder / "NOTICE.txt"):
        text = path.read_text(encoding="utf-8")
        assert licence_of("svd_xt").sentence in text and "made of svd_xt_tiny.safetensors" in text
    assert "cast to bf16" in beside.read_text(encoding="utf-8")


def test_licence_sentences_are_those_of_the_notice():
    notice = " ".join((Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8").split())
    for variant in ("svd", "svd_xt", "svd_xt_1_1"):
        assert licence_of(variant).sentence in notice
    distilled = licence_of("animatelcm").sentence
    assert licence_of("svd_xt").sentence in distilled and licence_of("svd_xt_1_1").sentence in distilled


def stop(done: int, total: int) -> None:
    """A cancel in the middle."""
    if done == total // 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["half.safetensors", "half"])
def test_a_cancel_leaves_nothing(tiny, tmp_path, name):
    with pytest.raises(KeyboardInterrupt):
        convert(tiny, tmp_path / name, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(tiny, tmp_path, monkeypatch):
    def full(_name, _tensor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("svd_core.checkpoints.writing._bytes", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        convert(tiny, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": "out.sft", "layout": "single"}, "end its name in .safetensors"),
        ({"target": "out.ckpt", "part": "unet"}, "out.ckpt is the name of a pickle; end it in .safetensors"),
        ({"target": "out.safetensors", "layout": "diffusers"}, "leave .safetensors out"),
        ({"target": "out.safetensors", "dtype": "int4"}, "fp16, bf16"),
        ({"target": "out.safetensors", "part": "lungs"}, "image_encoder"),
        ({"target": "absent/out.safetensors"}, "create it first"),
        ({"target": "taken"}, "exists"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tiny, tmp_path, given, words):
    (tmp_path / "taken").mkdir()
    values = dict(given)
    with pytest.raises(CheckpointError, match=words):
        convert(tiny, tmp_path / values.pop("target"), **values)


def test_networks_that_a_folder_cannot_describe_stay_in_one_file(tmp_path):
    path = tmp_path / "small.safetensors"
    save_file(dict(small_tensors()), path, metadata=SMALL_METADATA)
    with pytest.raises(CheckpointError, match="layout single"):
        convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_numbers_beyond_half_precision_are_refused(tmp_path):
    tensors = dict(tiny_tensors())
    key = "model.diffusion_model.input_blocks.0.0.weight"
    tensors[key] = tensors[key] * 1e9
    path = tmp_path / "large.safetensors"
    save_file(tensors, path, metadata=TINY)
    with pytest.raises(CheckpointError, match="use bf16 or fp32"):
        convert(path, tmp_path / "out.safetensors", dtype="fp16")
    assert not (tmp_path / "out.safetensors").exists()


def test_the_command_converts_and_says_what_the_licence_asks(tiny, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    assert main(["convert", str(tiny), str(target), "--dtype", "fp16"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(target) and "svd_xt" in err and "agreement" in err
    assert main(["convert", str(tiny), str(tmp_path / "x" / "y.safetensors")]) == 2
