"""Bytes of each stage: measured by running it on any device (the meta device included), or estimated from shapes."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from .models.config import CoderConfig, UNetConfig


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors made inside the `with` block that are alive at the same time.

    Weights and inputs made before the block are not counted. On the meta device this measures a real-size network
    without any memory; what a kernel allocates for itself and gives back (workspaces) is not seen. `peak` is the
    highest count so far, `operations` how many kernels ran.
    """

    def __init__(self):
        super().__init__()
        self.live = 0
        self.peak = 0
        self.operations = 0
        self._seen: set[int] = set()

    def _release(self, key: int, size: int) -> None:
        self.live -= size
        self._seen.discard(key)

    def _track(self, tensor: torch.Tensor, known: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in known or key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        weakref.finalize(storage, self._release, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        inputs = [x for x in tree_flatten((args, kwargs or {}))[0] if isinstance(x, torch.Tensor)]
        known = {x.untyped_storage()._cdata for x in inputs}
        out = function(*args, **(kwargs or {}))
        outputs = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
        if any(x.untyped_storage()._cdata not in known for x in outputs):
            self.operations += 1
        for x in outputs:
            self._track(x, known)
        return out


def unet_activation_bytes(config: UNetConfig, frames: int, height: int, width: int, itemsize: int = 2) -> int:
    """Estimated peak activation bytes of one UNet pass over one clip.

    frames: T; height and width: of the latent; itemsize: bytes of one activation (2 in half precision).
    The peak is in the highest level's last blocks, where the skips not yet consumed, the concatenated input and the
    residual block's intermediate results are alive together: counted as whole-clip tensors of the base width.
    """
    cell = frames * height * width * itemsize
    skips = 1 + config.num_res_blocks  # the top level's skips, at full size
    return int(cell * config.model_channels * (skips + 9))


def decoder_activation_bytes(
    config: CoderConfig, frames: int, height: int, width: int, itemsize: int = 2, *, strategy: str = "store"
) -> int:
    """Estimated peak activation bytes of the exact streamed decode of T latents of height x width.

    strategy: "store", "recompute" or "host", as in `streamed.STRATEGIES`. Counted in frames of the base width at full
    size: the lists that the strategy keeps, the windows of its temporal convolutions and the last block's own
    intermediate results. Small clips of large pictures are bound by the attention over one frame's pixels instead.
    """
    scale = 2 ** (len(config.channel_mult) - 1)
    frame = config.channels * height * scale * width * scale * itemsize
    lists = {"store": 2 * frames + 4, "recompute": frames + 9, "host": 9}[strategy]
    resident = 0 if strategy == "host" else frames
    one_frame = (resident + 7) * frame + min(2**26, frame * 4 // itemsize)
    attention = 4 * (height * width) ** 2 * itemsize + resident * frame
    return int(max(lists * frame, one_frame, attention) * 1.02)
