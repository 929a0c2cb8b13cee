"""What an exported MODEL adds to every sampling run of the host, such as that of KSampler."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from . import comfy as host


def in_sampling(patcher: Any, key: str, make: Callable[[], Any]) -> None:
    """Put make() under `key` into the transformer options of every sampling run with `patcher`, anew for each run."""

    def sampling(executor: Any, *given: Any, **more: Any) -> Any:
        guider = executor.class_obj
        before = guider.model_options
        guider.model_options = host.comfy.model_patcher.create_model_options_clone(before)
        guider.model_options.setdefault("transformer_options", {})[key] = make()
        try:
            return executor(*given, **more)
        finally:
            guider.model_options = before

    patcher.add_wrapper_with_key(host.comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, key, sampling)


def watch_sampling(patcher: Any, key: str, make: Callable[[], host.Preview]) -> None:
    """Show every step of all sampling runs with `patcher` by a preview of its own, made anew for each run.

    The callback of the sampler's node runs before it, as it would without the preview.
    """

    def sampling(executor: Any, noise: Any, latent: Any, sampler: Any, sigmas: Any, mask, callback, *given, **more):
        show = make()

        def step(index: int, denoised: Tensor, x: Tensor, total: int) -> None:
            if callback is not None:
                callback(index, denoised, x, total)
            show(index + 1, total, denoised)

        return executor(noise, latent, sampler, sigmas, mask, step, *given, **more)

    patcher.add_wrapper_with_key(host.comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, key, sampling)
