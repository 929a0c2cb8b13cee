"""How much memory a stage may use on a host that loads and evicts weights on demand (dynamic VRAM)."""

from types import SimpleNamespace

import pytest
import torch

from tests.helpers.nodes_pack import part

GIB = 2**30
CUDA, OTHER = torch.device("cuda:0"), torch.device("cuda:1")
# size and loaded bytes of the models that the host holds
UNET, CLIP, VAE = (2.8, 2.8), (1.2, 1.0), (0.2, 0.1)


def loaded(sizes: tuple[float, float], dynamic: bool | None, device: torch.device) -> SimpleNamespace:
    size, here = (int(one * GIB) for one in sizes)
    patcher = SimpleNamespace(model=object())
    if dynamic is not None:
        patcher.is_dynamic = lambda: dynamic
    return SimpleNamespace(
        model=patcher,
        device=device,
        model_loaded_memory=lambda: here,
        model_offloaded_memory=lambda: size - here,
    )


@pytest.mark.parametrize(
    ("dynamic", "device", "free"),
    [
        (True, CUDA, 2.0 + 2.8 + 1.0 - 0.1),  # the others can go, and the rest of the VAE will come
        (True, OTHER, 2.0),
        (False, CUDA, 2.0),
        (None, CUDA, 2.0),  # hosts before dynamic VRAM
    ],
)
def test_weights_that_the_host_evicts_on_demand_count_as_free(monkeypatch, dynamic, device, free):
    host = part("nodes.host.comfy")
    models = [loaded(sizes, dynamic, device) for sizes in (UNET, CLIP, VAE)]
    gone = SimpleNamespace(model=None, device=CUDA)
    answers = SimpleNamespace(
        is_device_cpu=lambda device: False,
        get_free_memory=lambda device: 2 * GIB,
        current_loaded_models=[*models, gone],
    )
    monkeypatch.setattr(host, "PRESENT", True)
    monkeypatch.setattr(host, "mm", answers, raising=False)
    using = SimpleNamespace(model=models[2].model.model)  # another patcher of the same model
    assert host.free_bytes(CUDA, using) == pytest.approx(0.9 * free * GIB, rel=1e-6)
