"""The OpenCLIP image tower: start image to one token (spec section 5). Attribute names are OpenCLIP's."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import attend
from .config import ImageEncoderConfig


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width, device=device, dtype=dtype) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width, device=device, dtype=dtype))
        self.out_proj = ops.Linear(width, width, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight.to(x), self.in_proj_bias.to(x))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, tokens, D]
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        place = {"device": device, "dtype": dtype}
        self.ln_1 = ops.LayerNorm(width, **place)
        self.attn = _SelfAttention(width, heads, ops=ops, **place)
        self.ln_2 = ops.LayerNorm(width, **place)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": ops.Linear(width, hidden, **place),
                "c_proj": ops.Linear(hidden, width, **place),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x))))


class ImageEncoder(nn.Module):
    """Vision transformer; the projected class token is the model's image token and is not normalised (spec trap 22)."""

    def __init__(self, config: ImageEncoderConfig, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        place = {"device": device, "dtype": dtype}
        width, patch = config.width, config.patch_size
        tokens = (config.image_size // patch) ** 2 + 1
        heads = width // config.head_channels
        scale = width**-0.5  # OpenCLIP's own start
        self.conv1 = ops.Conv2d(3, width, patch, stride=patch, bias=False, **place)
        self.class_embedding = nn.Parameter(torch.randn(width, **place) * scale)
        self.positional_embedding = nn.Parameter(torch.randn(tokens, width, **place) * scale)
        self.ln_pre = ops.LayerNorm(width, **place)
        layers = [_Layer(width, heads, config.mlp_channels, ops=ops, **place) for _ in range(config.layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(layers)})
        self.ln_post = ops.LayerNorm(width, **place)
        self.proj = nn.Parameter(torch.randn(width, config.output_channels, **place) * scale)

    def hidden_states(self, pixels: Tensor) -> list[Tensor]:
        """All token states [B, tokens, width]: after ln_pre, then after each layer. pixels: as for `forward`."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)  # [B, patches, width]
        first = self.class_embedding.to(x).expand(x.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding.to(x))
        states = [x]
        for layer in self.transformer["resblocks"]:
            states.append(layer(states[-1]))
        return states

    def project(self, last_state: Tensor) -> Tensor:
        """Image embedding [B, output_channels] of the last layer's token states [B, tokens, width]."""
        return self.ln_post(last_state[:, 0]) @ self.proj.to(last_state)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: normalised images [B, 3, size, size] (`conditioning.clip_pixels`). Returns [B, output_channels]."""
        return self.project(self.hidden_states(pixels)[-1])
