"""Initial values that shorten the training of nano's networks on a CPU.

The autoencoder starts as a linear one: three latent channels are the picture's brightness and two colour differences,
averaged over 8x8 pixels, and the decoder enlarges them smoothly. Every residual branch starts at zero and learns the
rest. GroupNorm subtracts means, so reference channels of fixed size carry colours through the two output norms: in a
group (c, A, -A) or (c, -c, A, -A) the normalised c is linear in c, and silu(u) - silu(-u) = u.
"""

import torch
from torch import Tensor, nn

REFERENCE = 3.0  # A above; colours stay within -1..1
# Brightness and two colour differences from red, green, blue; BACK is the inverse.
COLOURS = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.0, -0.5], [-0.25, 0.5, -0.25]])
BACK = torch.linalg.inv(COLOURS)
# Factors that give each of the three about unit deviation over training pictures.
GAINS = torch.tensor([2.2, 5.0, 7.0])


def zero(module: nn.Module) -> None:
    """Set every parameter of a module to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def pass_through(conv: nn.Module, kernel: Tensor, channels: int) -> None:
    """Set output channels 0..channels-1 of a convolution to the same input channels, filtered by `kernel` [k, k]."""
    conv.weight[:channels] = 0
    conv.bias[:channels] = 0
    for channel in range(channels):
        conv.weight[channel, channel] = kernel


@torch.no_grad()
def initialise_vae(vae: nn.Module) -> None:
    """Initialise an autoencoder without temporal half: encoder 64 * (1, 1, 2, 2), decoder 96 * (1, 1, 2, 2)."""
    for name, module in vae.named_modules():
        if name.endswith(("conv2", "proj_out")):
            zero(module)
    initialise_encoder(vae.encoder)
    initialise_decoder(vae.decoder)


def initialise_encoder(encoder: nn.Module) -> None:
    """Average colours over 8x8 pixels into latent channels 0 to 2; channel 3 starts at random."""
    encoder.conv_in.weight[:3] = 0
    encoder.conv_in.bias[:3] = 0
    encoder.conv_in.weight[:3, :, 1, 1] = COLOURS
    half = torch.tensor([[0.25, 0.25, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])
    pairs = encoder.down[2]["block"][0].nin_shortcut
    pairs.weight[:12] = 0
    for colour in range(3):
        pairs.weight[4 * colour, colour] = 1
        pairs.weight[4 * colour + 1, colour] = -1
        pairs.bias[4 * colour : 4 * colour + 4] = torch.tensor([0, 0, REFERENCE, -REFERENCE])
    for level, channels in ((0, 3), (1, 3), (2, 12)):
        pass_through(encoder.down[level]["downsample"].conv, half, channels)
    encoder.conv_out.weight[:3] = 0
    encoder.conv_out.weight[3] *= 6  # to about unit deviation, as GAINS does for the colours
    encoder.conv_out.bias[:4] = 0
    for colour in range(3):
        gain = GAINS[colour] * REFERENCE / 2**0.5
        encoder.conv_out.weight[colour, 4 * colour, 1, 1] = gain
        encoder.conv_out.weight[colour, 4 * colour + 1, 1, 1] = -gain
    encoder.conv_out.weight[4:] = 0
    encoder.conv_out.bias[4:] = -6.0  # a narrow posterior; only its mode is used


def initialise_decoder(decoder: nn.Module) -> None:
    """Enlarge latent channels 0 to 2 smoothly and turn them back into colours."""
    groups = 6  # (c, A, -A) and (-c, A, -A) for each of the three: channels 0 to 17
    decoder.conv_in.weight[: 3 * groups] = 0
    decoder.conv_in.bias[: 3 * groups] = 0
    for group in range(groups):
        colour, sign = group // 2, 1 - 2 * (group % 2)
        decoder.conv_in.weight[3 * group, colour, 1, 1] = sign / GAINS[colour]
        decoder.conv_in.bias[3 * group + 1 : 3 * group + 3] = torch.tensor([REFERENCE, -REFERENCE])
    pass_through(decoder.up[1]["block"][0].nin_shortcut, torch.ones(1, 1), 3 * groups)
    side = torch.tensor([0.25, 0.5, 0.25])
    for stage in decoder.up:
        if "upsample" in stage:
            # Zero padding darkens references and colours at the border until training corrects it.
            pass_through(stage["upsample"].conv, torch.outer(side, side), 3 * groups)
    spread = REFERENCE * (2 / 3) ** 0.5  # deviation within a group
    decoder.conv_out.weight.mul_(0.1)
    decoder.conv_out.weight[:, : 3 * groups] = 0
    decoder.conv_out.bias.zero_()
    for group in range(groups):
        colour, sign = group // 2, 1 - 2 * (group % 2)
        back = BACK[:, colour] * spread * sign
        decoder.conv_out.weight[:, 3 * group, 1, 1] = back
        # The group's mean, a third of c, was subtracted; the references give the amount.
        decoder.conv_out.weight[:, 3 * group + 1, 1, 1] = -back / 2
        decoder.conv_out.weight[:, 3 * group + 2, 1, 1] = -back / 2


@torch.no_grad()
def initialise_unet(unet: nn.Module, latent_scale: float) -> None:
    """Zero the layers that spec section 4 starts at zero, so that the fresh network is a sum of identities.

    Conditioning latents are unscaled, 1 / latent_scale times as large as noisy ones; their first weights correct that.
    """
    for name, module in unet.named_modules():
        if name.endswith(("out_layers.3", "proj_out")) or name == "out.2":
            zero(module)
        elif name.endswith("time_mixer"):
            nn.init.constant_(module.mix_factor, 0.5)
    unet.input_blocks[0][0].weight[:, 4:] *= latent_scale
