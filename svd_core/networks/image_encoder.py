"""The OpenCLIP image encoder: a picture to one context token (spec section 5). Attribute names are OpenCLIP's."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import attend
from .config import ImageEncoderConfig


def initial(*shape: int, scale: float, device=None, dtype=None) -> nn.Parameter:
    """Return a parameter of normal numbers times `scale`; without numbers on the meta device.

    There, torch.randn would import the compiler of PyTorch, which takes longer than all else when a model is loaded.
    """
    if torch.device(device or torch.get_default_device()).type == "meta":
        return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
    return nn.Parameter(torch.randn(shape, device=device, dtype=dtype) * scale)


class _SelfAttention(nn.Module):
    file_names = {f"in_proj.{kind}": f"in_proj_{kind}" for kind in ("weight", "bias")}
    """Our names of the joined projection, and OpenCLIP's, which files and `state_dict` have."""

    def __init__(self, width: int, heads: int, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.heads = heads
        # A layer, not two parameters: hosts move layers between devices. On the meta device it draws no numbers.
        self.in_proj = ops.Linear(width, 3 * width, device="meta", dtype=dtype)
        self.in_proj.weight = initial(3 * width, width, scale=width**-0.5, device=device, dtype=dtype)
        self.in_proj.bias = nn.Parameter(torch.zeros(3 * width, device=device, dtype=dtype))
        self.out_proj = ops.Linear(width, width, device=device, dtype=dtype)

    def state_dict(self, *given, prefix: str = "", **more) -> dict[str, Tensor]:
        """Return the weights under OpenCLIP's names, in its order."""
        weights = super().state_dict(*given, prefix=prefix, **more)
        for name in [name for name in weights if name.startswith(prefix)]:
            own = name.removeprefix(prefix)
            weights[prefix + self.file_names.get(own, own)] = weights.pop(name)
        return weights

    def _load_from_state_dict(self, weights: dict[str, Tensor], prefix: str, *rest) -> None:
        for own, theirs in self.file_names.items():
            if prefix + theirs in weights:
                weights[prefix + own] = weights.pop(prefix + theirs)
        super()._load_from_state_dict(weights, prefix, *rest)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.in_proj(x)
        q, k, v = rearrange(qkv, "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.out_proj(rearrange(attend(q, k, v), "b h n d -> b n (h d)"))


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
    """Vision transformer whose projected class token is the image token; it is not normalised (spec trap 22)."""

    def __init__(self, config: ImageEncoderConfig, *, ops=nn, device=None, dtype=None):
        super().__init__()
        self.config = config
        place = {"device": device, "dtype": dtype}
        width, patch = config.width, config.patch_size
        tokens = (config.image_size // patch) ** 2 + 1
        heads = width // config.head_channels
        scale = width**-0.5  # OpenCLIP's initialisation
        self.conv1 = ops.Conv2d(3, width, patch, stride=patch, bias=False, **place)
        self.class_embedding = initial(width, scale=scale, **place)
        self.positional_embedding = initial(tokens, width, scale=scale, **place)
        self.ln_pre = ops.LayerNorm(width, **place)
        layers = [_Layer(width, heads, config.mlp_channels, ops=ops, **place) for _ in range(config.layers)]
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList(layers)})
        self.ln_post = ops.LayerNorm(width, **place)
        self.proj = initial(width, config.output_channels, scale=scale, **place)

    def hidden_states(self, pixels: Tensor) -> list[Tensor]:
        """Return the token states [B, tokens, width] after ln_pre and after each layer. pixels: see `forward`."""
        # Convolutions round differently per memory layout. Pictures are [H, W, 3] in memory everywhere.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x = rearrange(self.conv1(pixels), "b c h w -> b (h w) c")  # [B, patches, width]
        first = self.class_embedding.to(x).expand(x.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding.to(x))
        states = [x]
        for layer in self.transformer["resblocks"]:
            states.append(layer(states[-1]))
        return states

    def project(self, last_state: Tensor) -> Tensor:
        """Return the image embedding [B, output_channels] of the last layer's states [B, tokens, width]."""
        return self.ln_post(last_state[:, 0]) @ self.proj.to(last_state)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the image embedding [B, output_channels].

        pixels: normalised pictures [B, 3, size, size] (`model.conditioning.clip_pixels`).
        """
        return self.project(self.hidden_states(pixels)[-1])
