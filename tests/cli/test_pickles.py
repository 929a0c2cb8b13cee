"""Pickled checkpoints: `convert` takes the weights out of them, runs nothing, and refuses what is more than weights."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svd_core.checkpoints import CheckpointError, load_model
from svd_core.checkpoints.convert import convert
from svd_core.cli.main import main
from svd_core.cli.pickles import open_pickle
from tests.helpers.checkpoint_files import SMALL_METADATA, UNET, only_unet, small_tensors

BLOCK = "input_blocks.1.1.time_stack.0."
FOLDER_BLOCK = "down_blocks.0.attentions.0.temporal_transformer_blocks.0."


class Command:
    """What a malicious file holds: opened as a full pickle, it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def saved(folder: Path, content: object, name: str = "model.ckpt", **options: object) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def test_a_pickled_model_becomes_the_same_model(tmp_path: Path) -> None:
    content = {"state_dict": dict(small_tensors()), "optimizer": [{"lr": 1e-4}], "epoch": 3}
    opened = open_pickle(saved(tmp_path, content))
    assert opened.metadata["svd.entry"] == "state_dict" and len(opened) == len(small_tensors())
    opened.metadata.update(SMALL_METADATA)  # the sizes of heads are in no shape
    model = load_model(convert(opened, tmp_path / "model.safetensors"))
    weights = model.unet.state_dict()
    assert all(torch.equal(weights[key.removeprefix(UNET)], value) for key, value in only_unet(small_tensors()).items())


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_malicious_pickle_ends_in_a_sentence_and_runs_nothing(wrapped: bool, tmp_path: Path, capsys) -> None:
    marker = tmp_path / "ran"
    content = {"state_dict": {"a": torch.zeros(1)}, "extra": Command(marker)} if wrapped else Command(marker)
    path = saved(tmp_path, content)
    assert main(["convert", str(path), str(tmp_path / "out.safetensors"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "holds more than tensors" in said and "nothing in it was run" in said
    assert not marker.exists() and not (tmp_path / "out.safetensors").exists()


def compressed(folder: Path) -> Path:
    path = saved(folder, {"a": torch.zeros(9)}, "plain.ckpt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(folder / "x.ckpt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return folder / "x.ckpt"


def written(folder: Path, content: bytes) -> Path:
    (folder / "x.pth").write_bytes(content)
    return folder / "x.pth"


REFUSED = {
    "missing": (lambda folder: folder / "none.ckpt", "there is no model at"),
    "old format": (lambda f: saved(f, {"a": torch.zeros(2)}, _use_new_zipfile_serialization=False), "older pickle"),
    "cut off": (lambda f: written(f, saved(f, {"a": torch.zeros(99)}).read_bytes()[:300]), "truncated"),
    "compressed": (compressed, "has compressed parts"),
    "a list": (lambda f: saved(f, [torch.zeros(2)]), "holds a list instead of named tensors"),
    "no tensors": (lambda f: saved(f, {"epoch": 3, "loss": 0.1}), "no tensors, only epoch, loss"),
    "endless tensor": (lambda f: saved(f, {"a": torch.zeros(1).expand(10**9)}), "describes more than"),
    "sparse": (lambda f: saved(f, {"a": torch.zeros(3, 3).to_sparse()}), "not a plain tensor|more than tensors"),
    "long name": (lambda f: saved(f, {"a" * 2000: torch.zeros(1)}), "name of 2,000 characters"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pickles_that_are_no_plain_weights_are_refused_in_a_sentence(case: str, tmp_path: Path) -> None:
    write, words = REFUSED[case]
    with pytest.raises(CheckpointError, match=words) as caught:
        open_pickle(write(tmp_path))
    assert "\n" not in str(caught.value) and "; " in str(caught.value)


def test_what_is_taken_out_of_a_pickle_is_named(tmp_path: Path, capsys) -> None:
    content = {
        "pose_encoder_state_dict": {"module.encoder_conv_in.bias": torch.zeros(4)},
        "attention_processor_state_dict": {f"{FOLDER_BLOCK}attn1.processor.qkv_merge.bias": torch.ones(4)},
        "optimizer_state_dict": {"a": torch.zeros(9)},
    }
    out = tmp_path / "cameractrl.safetensors"
    assert main(["convert", str(saved(tmp_path, content)), str(out), "--dtype", "fp16"]) == 0
    said = capsys.readouterr().err
    assert "2 tensors (32 bytes) from pose_encoder_state_dict, attention_processor_state_dict" in said
    assert "CameraCtrl-SVD camera weights" in said and "Apache License" in said
    weights = load_file(out)
    assert set(weights) == {
        "pose_encoder.encoder_conv_in.bias",
        f"unet.{FOLDER_BLOCK}attn1.processor.qkv_merge.bias",
    }
    assert all(value.dtype == torch.float16 for value in weights.values())
    assert "Apache" in (tmp_path / "cameractrl.NOTICE.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("prefix", "block"), [(UNET, BLOCK), ("unet.", FOLDER_BLOCK)], ids=["single file", "folder"])
def test_a_whole_motionctrl_model_is_reduced_to_what_was_trained(prefix: str, block: str, tmp_path: Path) -> None:
    trained = {"cc_projection.weight", "cc_projection.bias", "norm2.weight", "attn2.to_v.weight"}
    tensors = {f"{prefix}{block}{name}": torch.rand(2) for name in trained}
    tensors |= {f"{prefix}{block}attn1.to_v.weight": torch.rand(2), f"{prefix}out.2.weight": torch.rand(2)}
    out = convert(open_pickle(saved(tmp_path, {"state_dict": tensors})), tmp_path / "adapter.safetensors")
    weights = load_file(out)
    assert set(weights) == {f"{UNET}{BLOCK}{name}" for name in trained}
    assert all(torch.equal(weights[f"{UNET}{BLOCK}{name}"], tensors[f"{prefix}{block}{name}"]) for name in trained)


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ({"mid_convs.1.weight": torch.zeros(2), "scale": torch.ones(1)}, {}, "ControlNeXt-SVD v1.*use the v2 file"),
        ({"final_proj.weight": torch.zeros(2)}, {"dtype": "fp8"}, "too small for fp8"),
        ({"final_proj.weight": torch.zeros(2, dtype=torch.int8)}, {}, "stores 'final_proj.weight' as I8"),
    ],
)
def test_adapters_that_cannot_be_saved_are_refused(content, options, words, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        convert(open_pickle(saved(tmp_path, content)), tmp_path / "out.safetensors", **options)


def test_nodes_and_loaders_refuse_pickles_and_name_the_command(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": dict(small_tensors())}, "motionctrl_svd.ckpt")
    with pytest.raises(CheckpointError, match=r'svd_core convert "motionctrl_svd\.ckpt" "motionctrl_svd\.safetensors"'):
        load_model(path)
