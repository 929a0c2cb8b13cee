"""One server per test session. Without COMFYUI_DIR these tests are skipped, and the summary of tests/ says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.host.comfy_server import Server
from tests.host.graphs import Builder

from tests.helpers.nodes_pack import write_tiny  # isort: skip

REASON = "set COMFYUI_DIR (and COMFYUI_PYTHON) to a ComfyUI checkout to run the tests on a real host"


def pytest_collection_modifyitems(items):
    """Skip the tests of this folder without a host."""
    if "COMFYUI_DIR" in os.environ:
        return
    here = f"{Path(__file__).parent}{os.sep}"
    for item in items:
        if str(item.path).startswith(here):
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A running ComfyUI with the pack, a tiny checkpoint and a test picture."""
    base = tmp_path_factory.mktemp("comfy")
    subject = Server(base, "--preview-method", "latent2rgb")
    write_tiny(base / "models" / "checkpoints" / "svd_xt_tiny.safetensors")
    y, x = np.mgrid[0:48, 0:80] / 80
    pixels = np.stack([x, y, (x * y * 9) % 1], axis=-1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(base / "input" / "picture.png")
    try:
        yield subject.start()
    finally:
        subject.stop()


@pytest.fixture(scope="session")
def object_info(server):
    """The server's definitions of all its nodes."""
    return server.get("/object_info")


@pytest.fixture
def build(object_info):
    """A fresh graph builder."""
    return Builder(object_info)


@pytest.fixture
def run(server):
    """Run a builder's graph; it must succeed."""

    def runner(build: Builder, **options):
        result = server.run(build.graph, **options)
        assert result.ended == "execution_success", result.error()
        return result

    return runner


@pytest.fixture
def latent(server):
    """Read what a Save Latent node of a run has saved."""

    def read(result, node: str) -> torch.Tensor:
        return load_file(server.file(result.outputs[node]["latents"][0]))["latent_tensor"]

    return read


@pytest.fixture
def images(server):
    """Read what a Preview Image node of a run has saved: [N, H, W, 3] in 0..1."""

    def read(result, node: str) -> torch.Tensor:
        files = [server.file(entry) for entry in result.outputs[node]["images"]]
        return torch.stack(
            [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).float() / 255 for file in files]
        )

    return read
