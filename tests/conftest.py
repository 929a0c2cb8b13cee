"""Settings that every test shares: few threads, and random numbers that do not depend on the order of tests."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from svd_core import SVDModel, load_model
from svd_core.cli import models
from tests.helpers.nodes_pack import part, run, write_few_layers

torch.set_num_threads(min(4, torch.get_num_threads()))


def pytest_collection_finish() -> None:
    """Leave what lives as long as the run, such as all imported modules, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the last collection of the process see everything again."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter) -> None:
    """Say that the host was left out; a row of s is easily overlooked.

    It stands here because a process that only hands the tests out to others never reads the conftest of tests/host.
    """
    skipped = terminalreporter.stats.get("skipped", [])
    if "COMFYUI_DIR" not in os.environ and any(report.nodeid.startswith("tests/host/") for report in skipped):
        remedy = "set COMFYUI_DIR (and COMFYUI_PYTHON) to a ComfyUI checkout to run the tests on a real host"
        terminalreporter.write_line(f"tests/host were skipped: {remedy}", yellow=True)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same global seed; code under test should use generators of its own."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_log_level() -> Iterator[None]:
    """Undo what a test of `--quiet` does to the log of the tests after it."""
    log = logging.getLogger("svd_reel")
    before = log.level
    yield
    log.setLevel(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of few layers with random weights: 4 frames of 64x64."""
    return str(write_few_layers(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def model(checkpoint: str) -> SVDModel:
    """That model, loaded once: loading takes longer than its clips."""
    return load_model(checkpoint)


@pytest.fixture(scope="module")
def loaded(checkpoint: str) -> Iterator[tuple]:
    """The outputs of the loader node for it: model, image encoder, VAE. Modules may load another."""
    host, patch = part("nodes.host.comfy"), pytest.MonkeyPatch()
    name = Path(checkpoint).name
    patch.setattr(host, "model_files", lambda folder: [name] if folder == "svd" else [])
    patch.setattr(host, "model_path", lambda folder, asked: checkpoint if (folder, asked) == ("svd", name) else None)
    yield run("SVDReelLoadModel", model_name=name)
    patch.undo()


@pytest.fixture
def loaded_once(model: SVDModel, checkpoint: str, monkeypatch) -> None:
    """The command line gets it too."""
    load = models.load_model
    monkeypatch.setattr(models, "load_model", lambda path, **rest: model if path == checkpoint else load(path, **rest))
