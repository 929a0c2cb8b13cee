"""Number formats of Load SVD Model that this ComfyUI cannot compute, or that do not go with other settings."""

import pytest
import torch

from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from tests.helpers.nodes_pack import pack, part, run

FORMATS = part("nodes.host.quantised").FORMATS


def test_formats_of_comfy_kitchen_are_offered() -> None:
    choices = pack().NODE_CLASS_MAPPINGS["SVDReelLoadModel"].INPUT_TYPES()["required"]["precision"][0]
    assert {"auto", "fp16", *FORMATS} <= set(choices)


@pytest.mark.parametrize("choice", FORMATS)
def test_a_format_without_comfy_kitchen_is_refused_with_a_remedy(choice: str) -> None:
    with pytest.raises(ValueError, match=f"precision {choice} needs comfy-kitchen .*update ComfyUI.*or choose fp16"):
        run("SVDReelLoadModel", model_name="nano (embedded)", precision=choice)


def test_only_matrices_of_attention_and_feed_forward_are_rounded() -> None:
    """They are 22 in each of the 16 transformers of SVD; the embedding of frame numbers is not among them."""
    unet = UNet(UNetConfig(), device="meta")
    sizes = {key: value.numel() for key, value in unet.named_parameters()}
    chosen = {key for key, value in unet.named_parameters() if value.ndim == 2 and MATRICES.fullmatch(key)}
    assert len(chosen) == 352 and not any("time_pos_embed" in key for key in chosen)
    assert sum(sizes[key] for key in chosen) / sum(sizes.values()) == pytest.approx(SHARE, abs=0.005)


MATRICES = part("nodes.host.quantised").MATRICES
SHARE = 0.42  # of the parameters of SVD's UNet, as the help page says


def test_rounded_weights_are_not_trained_on() -> None:
    model = run("SVDReelLoadModel", model_name="nano (embedded)", precision="fp32")[0]
    layer = next(layer for layer in model.unet.model.diffusion_model.modules() if isinstance(layer, torch.nn.Linear))
    layer.quant_format = "int8_tensorwise"
    with pytest.raises(ValueError, match="8 or 4 bits cannot be trained on; set precision .* to fp16 or bf16"):
        part("nodes.training_run").plain_unet(model, torch.device("cpu"), torch.float32, 0)
