"""The file of fine-tuned backward motion: made of two UNets in either naming, and refused where it cannot be."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from svd_core.checkpoints.adapters import single_file_name
from svd_core.checkpoints.backward_motion import load_backward_motion, motion_differences
from svd_core.checkpoints.source import CheckpointError
from svd_core.checkpoints.split import split_state_dict
from svd_core.cli.main import main
from tests.helpers.checkpoint_files import UNET, only_unet, tiny_tensors
from tests.helpers.family_golden import read_golden
from tests.helpers.golden_rule import DATA, fill_by_rule


@pytest.fixture(scope="module")
def unets():
    """The base in single-file naming and the fine-tuned UNet in folder naming, 48 tensors of which differ."""
    base = only_unet(tiny_tensors())
    shapes = read_golden(DATA / "family" / "gen_inbetween_tiny.safetensors").shapes
    folder = [key.removeprefix("unet.") for key in shapes if "unet." in key and ".temporal_transformer_blocks." in key]
    tuned = {key: base[UNET + single_file_name(key)] for key in folder}
    changed = [key.removeprefix("finetuned.") for key in shapes if key.startswith("finetuned.")]
    return base, tuned | {key: tuned[key] + value for key, value in fill_by_rule(
        {key: list(tuned[key].shape) for key in changed}, 3).items()}  # fmt: skip


def test_the_difference_is_48_tensors_whatever_the_naming(unets, tmp_path):
    base, tuned = unets
    made = motion_differences(tuned, base, "tuned")
    assert len(made) == 48 and all(key.startswith("backward_motion.") for key in made)
    for name, tensors in (("base", base), ("tuned", tuned)):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    words = ["convert", str(tmp_path / "tuned.safetensors"), str(tmp_path / "motion.safetensors"), "--quiet"]
    assert main([*words, "--backward-motion", str(tmp_path / "base.safetensors")]) == 0
    written = load_file(tmp_path / "motion.safetensors")
    assert written.keys() == made.keys()
    assert all(torch.equal(written[key], made[key].half()) for key in made)
    assert "Generative Inbetweening" in (tmp_path / "motion.NOTICE.txt").read_text()
    config = split_state_dict(base, {"svd.head_channels": "16"}).config.unet
    network = load_backward_motion(tmp_path / "motion.safetensors", config)
    assert len(network.blocks) == 16
    with pytest.raises(CheckpointError, match="is an SVD model, for Load SVD Model.*; use backward motion weights"):
        load_backward_motion(tmp_path / "base.safetensors", config)


def test_files_that_cannot_be_compared_are_refused(unets, tmp_path, capsys):
    base, tuned = unets
    with pytest.raises(CheckpointError, match="equals its base in every layer of its motion"):
        motion_differences(base, base, "base")
    with pytest.raises(CheckpointError, match="not SVD UNets of one size; give the unet folder and svd"):
        motion_differences({"a": torch.ones(1)}, base, "a file")
    words = ["convert", "in.safetensors", str(tmp_path / "out.safetensors"), "--backward-motion", "svd", "--quiet"]
    assert main([*words, "--dtype", "fp16"]) == 2
    assert "--dtype does not apply to --backward-motion, which writes fp16" in capsys.readouterr().err
