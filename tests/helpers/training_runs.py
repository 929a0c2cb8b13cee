"""A run small enough to be repeated in a test, also in a separate process."""

import torch

from svd_core.networks.config import UNetConfig
from svd_core.networks.unet import UNet
from svd_core.training import Trainer, TrainingSample, TrainSettings

FRAMES, SIDE = 2, 4
CONFIG = UNetConfig(
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_levels=(0,),
    head_channels=32,
    context_channels=8,
    vector_channels=24,
)
FULL = {"method": "full", "targets": "all", "rate": 1e-3}


class NoiseClips:
    """Random clips, each its own."""

    def sample(self, index, generator):
        def draw(*shape):
            return torch.randn(shape, generator=generator)

        return TrainingSample(draw(FRAMES, 4, SIDE, SIDE), draw(4, SIDE, SIDE), draw(8), draw(24))


def small_unet(seed=0):
    """A random UNet, the same for a seed."""
    torch.manual_seed(seed)
    return UNet(CONFIG)


def settings(**changes):
    """A short run that logs and saves often."""
    usual = {"steps": 8, "batch": 2, "rank": 2, "rate": 1e-2, "warmup": 2, "ema": 0.9, "log_every": 2, "save_every": 3}
    return TrainSettings(**usual | changes)


def train(folder, *, source=None, unet=None, run=None, **changes):
    """Train a fresh small UNet, or resume the run in the folder."""
    trainer = Trainer(unet or small_unet(), source or NoiseClips(), settings(**changes), folder)
    return trainer.run(**run or {})


def stop_after(steps):
    """Return a `should_stop` that returns True after `steps` steps."""
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) > steps

    return should_stop


def train_and_tell(folder, steps, say):
    """Train the temporal layers until killed or done, saving after every step; `say` sends each step's number."""
    torch.set_num_threads(1)
    say.send(0)
    run = {"on_step": lambda progress: say.send(progress.step)}
    train(folder, steps=steps, save_every=1, log_every=1, run=run, **FULL | {"targets": "temporal"})
