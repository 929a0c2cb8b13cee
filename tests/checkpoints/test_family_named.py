"""Files of the SVD family in the model loader: each is called what it is, and sent where it belongs."""

import pytest
import torch

from svd_core.checkpoints.source import CheckpointError
from svd_core.checkpoints.split import split_state_dict

TEMPORAL = "down_blocks.0.resnets.0.temporal_res_block.conv1.weight"


def tensors(*names, **shapes):
    return {name: torch.zeros(shapes.get(name.replace(".", "_"), (4,)), device="meta") for name in names}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("controlnet_cond_embedding.conv_in.weight", TEMPORAL, "conv_in.weight"),
         "a ControlNet for SVD.*models/controlnet.*--controlnet"),
        (("flow_encoder.conv.weight", "controlnet_cond_embedding.conv_in.weight"), "MOFA-Video.*not supported"),
        (("mid_convs.1.weight", "embedding.0.weight", "down_res.0.conv1.weight"), "ControlNeXt.*adapter.*svd_xt"),
        (("final_proj.weight", "conv_layers.0.weight", "scale"), "MimicMotion.*adapter"),
        (("encoder_conv_in.weight", "encoder_down_attention_blocks.0.0.attention_blocks.0.pos_encoder.pe"),
         "CameraCtrl.*adapter"),
        (("model.diffusion_model.input_blocks.1.1.time_mix_blocks.0.norm1.weight",), "SV4D.*not supported"),
        (("audio2token.proj.weight",), "Sonic.*not supported"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model_is_named(names, words):
    with pytest.raises(CheckpointError, match=f"some.safetensors is .*{words}"):
        split_state_dict(tensors(*names), {}, name="some.safetensors")


def test_a_unet_of_nine_channels_is_stereocrafter():
    given = tensors(TEMPORAL) | {"conv_in.weight": torch.zeros(320, 9, 3, 3, device="meta")}
    with pytest.raises(CheckpointError, match="StereoCrafter.*not supported"):
        split_state_dict(given, {}, name="unet.safetensors")


def test_an_image_controlnet_is_not_called_one_for_svd():
    given = tensors("controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")
    with pytest.raises(CheckpointError) as caught:
        split_state_dict(given, {}, name="canny.safetensors")
    assert "for SVD" not in str(caught.value) and "ControlNet" in str(caught.value)
