"""LoRA files: what the report counts, what is refused with which words, what saving leaves on the disk."""

import argparse
import json
import logging

import pytest
import torch
from safetensors import safe_open

import svd_core as svd
from svd_core.checkpoints import CheckpointError
from svd_core.cli.models import load_named_model
from svd_core.cli.options import add_machine_options, add_model_options, lora_metadata
from svd_core.cli.progress import Progress
from svd_core.lora import LoraError, load_lora, match_lora, save_lora
from svd_core.lora.apply import parameter_shapes
from svd_core.lora.read import read_lora_options, split_lora_option
from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from tests.helpers.lora_files import layer_shapes, random_layers, spellings, write

NETWORK = UNetConfig(model_channels=32, head_channels=16, context_channels=48)
SHAPES = layer_shapes(UNet(NETWORK, device="meta"))
PARAMETERS = parameter_shapes(UNet(NETWORK, device="meta"))
TIME, SPACE = "input_blocks.1.1.time_stack.0.attn1.to_q", "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
PAIR = {"unet.conv_in.lora_A.weight": torch.ones(2, 8, 3, 3), "unet.conv_in.lora_B.weight": torch.ones(32, 2, 1, 1)}


def two_layers(rank: int = 2) -> dict[str, torch.Tensor]:
    return spellings(random_layers({path: SHAPES[path] for path in (TIME, SPACE)}, rank))["kohya, folder names"]


def report_of(path):
    return match_lora(load_lora(path), PARAMETERS, NETWORK)[1]


def test_the_report_counts_every_tensor_once_by_family(tmp_path):
    tensors = two_layers() | {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 4),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(2.0),
        "lora_unet_down_blocks_9_attentions_0_proj_in.lora_down.weight": torch.ones(2, 4),
        "lora_unet_down_blocks_9_attentions_0_proj_in.lora_up.weight": torch.ones(4, 2),
        "lora_unet_conv_in.lora_down.weight": torch.ones(2, 9),
        "lora_unet_conv_in.lora_up.weight": torch.ones(32, 2),
        "lora_unet_conv_out.lora_up.weight": torch.ones(4, 2),
        "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.ones(4, 2),
        "lora_unet_conv_in.steps": torch.tensor(3),
    }
    report = report_of(write(tmp_path / "mixed.safetensors", tensors))
    assert {kind: len(keys) for kind, keys in report.matched.items()} == {
        "temporal self-attention": 3,
        "spatial self-attention": 3,
    }
    assert sorted(len(keys) for keys in report.unmatched.values()) == [1, 2, 2]
    assert sorted(len(keys) for keys in report.skipped.values()) == [1, 1, 2]
    assert report.total == len(tensors) and report.ranks == (2,)
    text = report.text()
    for words in ("6 of 15 tensors", "rank 2", "text encoder", "LoHa", "down_blocks", "32x9 numbers", "lora_te_"):
        assert words in text, text
    assert "6 of 15 tensors are used" in report.warning()


def test_a_partial_match_warns_with_examples_and_a_full_one_is_silent(tmp_path, caplog):
    model = svd.SVDModel(UNet(NETWORK), None, None, svd.networks.config.SVDConfig(unet=NETWORK))
    full = write(tmp_path / "full.safetensors", two_layers())
    part = write(tmp_path / "part.safetensors", two_layers() | {"unet.nowhere.lora_A.weight": torch.ones(2, 2)})
    with caplog.at_level(logging.WARNING):
        svd.apply_loras(model, [(load_lora(full), 1, 1)])
        assert not caplog.records
        svd.apply_loras(model, [(load_lora(part), 1, 1)])
    (record,) = caplog.records
    assert "6 of 7" in record.getMessage() and "unet.nowhere.lora_A.weight" in record.getMessage()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("pan_rihgt.safetensors", "folder holds pan_right.safetensors; did you mean pan_right.safetensors[?]"),
        ("pan_right.safetensors:nan", "folder holds pan_right.safetensors; did you mean pan_right.safetensors[?]"),
        ("nano_pan_lef", "did you mean nano_pan_left[?]"),
        ("zoom.safetensors", "folder holds pan_right.safetensors; check the name, "),
        ("zoom", "folder holds pan_right.safetensors; check the name, .*or use the embedded nano_pan_left"),
        ("nowhere/zoom", "there is no folder .*nowhere either; check the name, .*or use the embedded nano_pan_left"),
    ],
)
def test_a_path_without_a_lora_is_answered_with_what_is_near_and_no_word_of_models(tmp_path, monkeypatch, path, words):
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "pan_right.safetensors", two_layers())
    monkeypatch.chdir(tmp_path / "folder")
    with pytest.raises(LoraError, match=f"there is no LoRA at {path}; .*{words}") as caught:
        read_lora_options([path])
    assert "model" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 4)}, "text encoder"),
        ({"a.hada_w1_a": torch.ones(2, 2)}, "LoHa"),
        ({"weight": torch.ones(2)}, "not a known file"),
        ({}, "bad.safetensors is empty: it holds no tensors; "),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, "a part of a UNet"),
        (PAIR | {"unet.conv_out.lora_A.weight": torch.full((2, 2), float("nan"))}, "not finite"),
        (PAIR | {"unet.conv_out.lora_B.weight": torch.full((2, 2), float("inf"))}, None),
    ],
)
def test_files_without_a_usable_lora_are_answered_with_a_sentence(tmp_path, tensors, words):
    path = write(tmp_path / "bad.safetensors", tensors)
    if words is None:  # half a layer is reported, its numbers are not looked at
        assert report_of(path).unmatched
        return
    if words == "not finite":
        tensors["unet.conv_out.lora_B.weight"] = torch.ones(4, 2)
        write(path, tensors)
    with pytest.raises(LoraError, match=words):
        load_lora(path)


def test_a_lora_of_which_nothing_matches_is_an_error_that_names_what_it_holds(tmp_path):
    tensors = {"unet.stage.3.lora_A.weight": torch.ones(2, 4), "unet.stage.3.lora_B.weight": torch.ones(4, 2)}
    with pytest.raises(LoraError, match="none of its 2 tensors fits one of its layers.*unet.stage"):
        report_of(write(tmp_path / "other.safetensors", tensors))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.safetensors", None, "truncated"),
        ("page.safetensors", b"<html>please log in</html>", "web page"),
        ("lora.pt", b"\x80\x02}q\x00.", "pickle"),
        ("empty.safetensors", b"", "truncated"),
    ],
)
def test_files_that_are_damaged_or_no_safetensors_are_answered_with_a_sentence(tmp_path, name, content, words):
    whole = write(tmp_path / "whole.safetensors", two_layers()).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[:-20] if content is None else content)
    with pytest.raises(CheckpointError, match=words):
        load_lora(path)


def test_settings_beside_the_tensors_give_their_alphas(tmp_path):
    tensors = spellings(random_layers({TIME: SHAPES[TIME]}, rank=4))["peft, adapter name"]
    write(tmp_path / "adapter_model.safetensors", tensors)
    config = tmp_path / "adapter_config.json"
    for text, scale in (('{"lora_alpha": 8}', 2.0), ('{"lora_alpha": 8, "use_rslora": true}', 4.0), ("{}", 1.0)):
        config.write_text(text, encoding="utf-8")
        (stored,) = load_lora(tmp_path).layers.values()
        assert stored.layer.scale == scale


@pytest.mark.parametrize(
    ("shape", "by_input"),
    [((32,), False), ((32, 1), False), ((1, 32), True)],
)
def test_the_axis_of_stored_magnitudes_follows_from_their_shape(tmp_path, shape, by_input):
    tensors = two_layers()
    name = next(key for key in tensors if key.endswith("lora_down.weight")).removesuffix(".lora_down.weight")
    path = write(tmp_path / "dora.safetensors", tensors | {f"{name}.dora_scale": torch.ones(shape)})
    (layer,) = (stored.layer for stored in load_lora(path).layers.values() if stored.layer.magnitude is not None)
    assert layer.by_input == by_input
    assert not report_of(path).unmatched


def test_a_saved_file_says_what_it_is_and_has_a_notice_beside_it(tmp_path):
    down, up = next(iter(random_layers({TIME: SHAPES[TIME]}, rank=2).values()))
    told = {"base_model": "svd_xt_1_1", "targets": "temporal", "trigger": "pans left", "settings": {"steps": 3}}
    path = save_lora(tmp_path / "new" / "pan.safetensors", {TIME: (down, up, None)}, told)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["svd.lora.base_model"] == "svd_xt_1_1" and metadata["svd.lora.targets"] == "temporal"
    assert json.loads(metadata["svd.lora.settings"]) == {"steps": 3} and metadata["svd.lora.rank"] == "2"
    notice = (path.parent / "pan.NOTICE.txt").read_text(encoding="utf-8")
    for text in (metadata["svd.lora.licence"], notice):
        assert "This Stability AI Model is licensed under the Stability AI Non-Commercial Research Community" in text
    assert "pans left" in notice and "temporal" in notice
    assert {file.name for file in path.parent.iterdir()} == {"pan.safetensors", "pan.NOTICE.txt"}
    assert load_lora(path).layers[TIME.replace(".", "_")].layer.scale == 1.0


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("a.pt", {TIME: (torch.ones(2, 4), torch.ones(4, 2), None)}, "end it in .safetensors"),
        ("a.safetensors", {}, "train first"),
        ("a.safetensors", {TIME: (torch.ones(2, 4), torch.ones(4, 3), None)}, "do not multiply"),
        ("a.safetensors", {TIME: (torch.full((2, 4), float("nan")), torch.ones(4, 2), None)}, "not finite"),
    ],
)
def test_what_cannot_be_a_lora_is_not_saved(tmp_path, name, weights, words):
    with pytest.raises(LoraError, match=words):
        save_lora(tmp_path / name, weights, {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_files_as_they_were(tmp_path, monkeypatch):
    down, up = next(iter(random_layers({TIME: SHAPES[TIME]}, rank=2).values()))
    path = save_lora(tmp_path / "pan.safetensors", {TIME: (down, up, None)}, {"trigger": "old"})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(_name, _tensor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("svd_core.checkpoints.writing._bytes", full)
    with pytest.raises(OSError, match="No space left on device.*free space"):
        save_lora(path, {TIME: (up.T.contiguous(), up, None)}, {"trigger": "new"})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pan.safetensors", ("pan.safetensors", 1.0, 1.0)),
        ("pan.safetensors:0.5", ("pan.safetensors", 0.5, 0.5)),
        ("pan.safetensors:0:-1", ("pan.safetensors", 0.0, -1.0)),
        ("C:\\loras\\pan.safetensors:2", ("C:\\loras\\pan.safetensors", 2.0, 2.0)),
        ("C:\\loras\\pan.safetensors", ("C:\\loras\\pan.safetensors", 1.0, 1.0)),
    ],
)
def test_the_option_of_the_command_line_is_a_file_and_up_to_two_strengths(text, expected):
    assert split_lora_option(text) == expected


@pytest.mark.parametrize("text", [":1", "absent.safetensors:nan"])
def test_a_bad_option_is_answered_with_a_sentence(text):
    with pytest.raises(ValueError, match="names no file|there is no LoRA"):
        read_lora_options([text])


def test_commands_that_run_a_model_run_it_with_the_loras_of_the_option(tmp_path):
    plain = svd.load_model("nano").unet.get_submodule(TIME).weight
    layers = random_layers({TIME: tuple(plain.shape)})
    file = write(tmp_path / "own.safetensors", spellings(layers)["single file"])
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_machine_options(parser.add_argument_group("machine"))
    options = parser.parse_args(["--lora", f"{file}:0:2", "--lora", f"{file}", "--device", "cpu", "--quiet"])
    down, up = layers[TIME]
    changed = load_named_model(options, Progress(quiet=True)).unet.get_submodule(TIME).weight
    torch.testing.assert_close(changed.data, plain + 3 * up @ down, rtol=1e-5, atol=1e-5)
    assert lora_metadata(options) == {"lora": [f"{file}:0:2", f"{file}"]}
