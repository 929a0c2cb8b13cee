"""The one camera move that nano v0 knows: a push-in towards the bright side of the picture.

The focus lies inside the picture, so no frame ever needs what the picture does not show: frame t is a function of the
picture, the motion bucket and the frame rate alone. Travel is measured as the logarithm of the zoom.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 0.6  # farthest focus from the centre, in half picture sizes
RATE = 0.045  # log zoom per frame at bucket 255 and 7 frames per second
SLOWEST_FPS, FASTEST_FPS = 5, 12


def travel_per_frame(motion_bucket: Tensor | float, fps: Tensor | float) -> Tensor | float:
    """Return the log zoom per frame for a bucket 0..255 and `fps` frames per second (the network sees fps - 1)."""
    return RATE * (motion_bucket / 255.0) * (7.0 / fps)


def bright_focus(pictures: Tensor) -> Tensor:
    """Return where the light of each of [B, 3, H, W] sits: [B, 2] (x right, y down) within +-0.6, 0 the centre."""
    light = F.adaptive_avg_pool2d(pictures.mean(1, keepdim=True), 16)[:, 0]  # [B, 16, 16]
    light = light - light.mean(dim=(1, 2), keepdim=True)
    axis = (torch.arange(16) + 0.5) / 8 - 1
    moments = torch.stack([(light * axis).sum(dim=(1, 2)), (light * axis[:, None]).sum(dim=(1, 2))], 1)
    return REACH * torch.tanh(3 * moments / light.abs().sum(dim=(1, 2)).clamp(min=0.5)[:, None])


def push_in(planes: Tensor, focus: Tensor, travels: Tensor) -> Tensor:
    """Move pictures or latents [B, C, h, w] along the log zooms `travels` [B, T] about `focus` [B, 2].

    Returns [B, T, C, h, w]; travel 0 is the input itself. Bilinear: the autoencoder is trained to decode latents that
    were moved in just this way.
    """
    count, frames = travels.shape
    scale = torch.exp(-travels).flatten()  # [B*T]
    matrix = torch.zeros(count * frames, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = focus.repeat_interleave(frames, 0) * (1 - scale)[:, None]
    grid = F.affine_grid(matrix, [count * frames, *planes.shape[1:]], align_corners=False)
    moved = F.grid_sample(
        planes.repeat_interleave(frames, 0), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.unflatten(0, (count, frames))


def expected_flow(picture: Tensor, motion_bucket: float, fps: float) -> float:
    """Return the mean displacement in pixels per frame that the camera model prescribes for [3, H, W]."""
    height, width = picture.shape[1:]
    focus = bright_focus(picture[None])[0]
    x = (torch.arange(width) + 0.5) / width * 2 - 1 - focus[0]
    y = (torch.arange(height) + 0.5) / height * 2 - 1 - focus[1]
    distance = torch.hypot(x[None, :] * width / 2, y[:, None] * height / 2).mean()
    return float(distance) * float(travel_per_frame(motion_bucket, fps))
