"""The layers of the image encoder, which hosts move between devices one by one."""

import copy
import pickle

import torch
from torch import nn

from svd_core.networks.config import ImageEncoderConfig
from svd_core.networks.image_encoder import ImageEncoder

SMALL = ImageEncoderConfig(28, 14, 32, 2, 16, 64, 8)


@torch.no_grad()
def test_the_weights_of_every_block_belong_to_layers_and_keep_the_names_of_openclip():
    encoder, x = ImageEncoder(SMALL), torch.randn(1, 3, 28, 28)
    outside = [
        f"{name}.{own}"
        for name, module in encoder.named_modules()
        if any(True for _ in module.children())
        for own, _ in module.named_parameters(recurse=False)
    ]
    # The host moves what lies outside layers to the card for good; these three are 3 MB of SVD's encoder.
    assert outside == [".class_embedding", ".positional_embedding", ".proj"]
    attention = encoder.transformer["resblocks"][0].attn
    assert list(attention.state_dict()) == ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    assert isinstance(attention.in_proj, nn.Linear)
    loaded = ImageEncoder(SMALL, device="meta")
    loaded.load_state_dict(encoder.state_dict(), assign=True)
    for other in (loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert torch.equal(other(x), encoder(x))
