"""The node that adds a LoRA, without a host: it chains, does not change its input, and reports."""

import pytest
import torch

from tests.helpers.lora_files import random_layers, spellings, write
from tests.helpers.nodes_pack import part, run

PATHS = ("input_blocks.1.1.time_stack.0.attn1.to_v", "input_blocks.1.1.transformer_blocks.0.attn1.to_v")


@pytest.fixture(scope="module")
def loaded():
    return run("SVDReelLoadModel", model_name="nano (embedded)", precision="fp32")[0]


@pytest.fixture
def put(loaded, tmp_path, monkeypatch):
    """Write a LoRA for the loaded model where the node finds it; its name."""
    monkeypatch.setattr(part("nodes.host.comfy"), "model_path", lambda _, name: str(tmp_path / name))

    def writer(name: str, seed: int) -> str:
        shapes = {path: tuple(weight(loaded, path).shape) for path in PATHS}
        write(tmp_path / name, spellings(random_layers(shapes, seed=seed))["trainers, unet."])
        return name

    return writer


def weight(model, path: str) -> torch.Tensor:
    return model.unet.model.diffusion_model.get_submodule(path).weight.detach()


def test_nodes_in_a_row_add_up_over_the_weights_as_loaded(loaded, put):
    before = [weight(loaded, path).clone() for path in PATHS]
    one, two = put("one.safetensors", 1), put("two.safetensors", 2)
    first, report = run("SVDReelLoadLora", model=loaded, lora_name=one, temporal_strength=0.5)
    both, _ = run("SVDReelLoadLora", model=first, lora_name=two, strength=0.0, temporal_strength=-1.0)
    alone, _ = run("SVDReelLoadLora", model=loaded, lora_name=two, strength=0.0, temporal_strength=-1.0)
    assert "4 of 4 tensors matched" in report and "temporal self-attention: 2 tensors, 1 layers" in report
    temporal, spatial = PATHS
    expected = weight(first, temporal) + weight(alone, temporal) - weight(loaded, temporal)
    torch.testing.assert_close(weight(both, temporal), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(weight(both, spatial), weight(first, spatial))
    assert not torch.equal(weight(first, spatial), weight(loaded, spatial))
    assert all(torch.equal(weight(loaded, path), old) for path, old in zip(PATHS, before, strict=True))
    exported = run("SVDReelExportModel", model=both)[0]
    assert torch.equal(exported.model.diffusion_model.get_submodule(temporal).weight, weight(both, temporal))


def test_none_and_strength_zero_hand_the_model_on(loaded, put):
    assert run("SVDReelLoadLora", model=loaded)[0] is loaded
    name = put("one.safetensors", 1)
    assert run("SVDReelLoadLora", model=loaded, lora_name=name, strength=0.0, temporal_strength=0.0)[0] is loaded


def test_an_absent_file_is_answered_with_the_folder_it_belongs_to(loaded):
    with pytest.raises(FileNotFoundError, match="models/loras"):
        run("SVDReelLoadLora", model=loaded, lora_name="absent.safetensors")
