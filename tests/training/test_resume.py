"""A run that is killed, stopped or out of disk space resumes with the same result."""

import importlib.util
import json
import multiprocessing
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from svd_core.checkpoints.source import read_header
from svd_core.networks.unet import UNet
from svd_core.training import read_log
from svd_core.training.state import STATE_FILE
from tests.helpers.training_runs import CONFIG, FULL, NoiseClips, small_unet, stop_after, train, train_and_tell

KILLS = 5
STEPS = 30
TESTS = Path(__file__).resolve().parents[1]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the 8-bit optimizer needs bitsandbytes"
)


class Session:
    """A run in a separate process. The server that processes are forked from imports torch once for all of them."""

    def __init__(self, folder):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.helpers.training_runs"])
        self.folder = folder
        self._told, say = context.Pipe(duplex=False)
        self.process = context.Process(target=train_and_tell, args=(folder, STEPS, say))
        self.process.start()
        say.close()
        assert self._told.recv() == 0

    def wait_for_a_step(self):
        """The number of the next step that is done."""
        return self._told.recv()

    def wait_for_a_save(self):
        """Return while an unfinished state file is there, or when the run is over."""
        while self.process.is_alive() and not any(self.folder.glob(".state*.part")):
            time.sleep(0.0005)

    def kill(self):
        """Kill the process with SIGKILL."""
        self.process.kill()
        self.process.join()

    def finish(self):
        """Wait for its end and return the exit status."""
        self.process.join()
        return self.process.exitcode


def state_step(folder):
    """The step of the state in a folder, 0 for none yet; raises for a file that cannot be read."""
    path = folder / STATE_FILE
    return json.loads(read_header(path).metadata["training"])["step"] if path.exists() else 0


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs SIGKILL and fork")
def test_kills_at_random_leave_nothing_unreadable_and_the_weights_of_an_unbroken_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent)]))  # of the server
    unbroken, folder = tmp_path / "unbroken", tmp_path / "killed"
    assert Session(unbroken).finish() == 0
    dice = random.Random(7)
    steps, hits = [0], 0
    for kill in range(KILLS):
        session = Session(folder)
        for _ in range(dice.randint(0, 2)):
            session.wait_for_a_step()
        if kill % 2:
            session.wait_for_a_save()
        else:
            time.sleep(dice.random() * 0.05)
        session.kill()
        hits += any(folder.glob(".state*.part"))
        steps.append(state_step(folder))
        rows = [row.step for row in read_log(folder)]
        assert rows == list(range(1, len(rows) + 1))
    assert steps == sorted(steps)
    assert hits >= 1, "no kill hit a save"
    assert steps[-1] < STEPS, "the run was over before the last kill: raise STEPS"
    assert Session(folder).finish() == 0
    expected, actual = load_file(unbroken / STATE_FILE), load_file(folder / STATE_FILE)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert [row.loss for row in read_log(folder)] == [row.loss for row in read_log(unbroken)]
    assert sorted(path.name for path in folder.iterdir()) == ["log.csv", "loss.png", STATE_FILE]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"targets": "all", "accumulation": 2, "optimizer": "muon"},
        FULL | {"optimizer": "muon", "schedule": "linear-cooldown"},
        FULL | {"targets": "temporal", "precision": "bf16", "gradient_checkpointing": True, "ema": 0.0},
        {"precision": "fp16", "schedule": "constant"},
        pytest.param(FULL | {"optimizer": "adamw8bit"}, marks=needs_bitsandbytes),
    ],
    ids=["lora", "lora, muon", "full, muon", "temporal, bf16", "lora, fp16", "full, adamw8bit"],
)
def test_a_stopped_run_goes_on_with_the_same_weights_and_the_same_log(tmp_path, changes):
    unbroken = train(tmp_path / "a", **changes)
    stopped = train(tmp_path / "b", run={"should_stop": stop_after(4)}, **changes)
    assert stopped.stopped and stopped.steps == 4 and not unbroken.stopped
    resumed = train(tmp_path / "b", **changes)
    assert resumed.steps == unbroken.steps == 8
    assert all(torch.equal(resumed.weights[name], value) for name, value in unbroken.weights.items())
    assert [(r.step, r.loss, r.bands) for r in read_log(tmp_path / "b")] == [
        (r.step, r.loss, r.bands) for r in read_log(tmp_path / "a")
    ]


def test_a_finished_run_can_be_prolonged_and_asked_again(tmp_path):
    first = train(tmp_path, steps=3, schedule="constant", warmup=0)
    again = train(tmp_path, steps=3, schedule="constant", warmup=0)
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    longer = train(tmp_path, steps=5, schedule="constant", warmup=0)
    assert longer.steps == 5
    assert [row.step for row in longer.rows] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "unet_seed", "words"),
    [
        ({"rank": 4}, 0, "rank 2 .got 4."),
        ({"targets": "spatial"}, 0, "targets 'temporal' .got 'spatial'."),
        ({"ema": 0.0}, 0, "ema"),
        ({}, 1, "another base model"),
    ],
)
def test_a_folder_of_another_run_is_refused(tmp_path, changes, unet_seed, words):
    train(tmp_path, steps=1)
    with pytest.raises(ValueError, match=words):
        train(tmp_path, unet=small_unet(unet_seed), **{"steps": 2} | changes)


def test_a_full_run_of_another_architecture_is_refused(tmp_path):
    train(tmp_path, steps=1, **FULL)
    with pytest.raises(ValueError, match="another base model"):
        train(tmp_path, steps=2, unet=UNet(replace(CONFIG, num_res_blocks=2)), **FULL)


def test_a_damaged_state_is_named_and_left_alone(tmp_path):
    train(tmp_path, steps=1)
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is not the state of a training run .* delete it to start again"):
        train(tmp_path, steps=2)


def test_a_full_disk_is_said_in_one_sentence_and_the_state_before_stays(tmp_path):
    resource = pytest.importorskip("resource")
    train(tmp_path, steps=2)
    before = (tmp_path / STATE_FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stops a write in its middle, as a disk without space does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*state.safetensors \(.*\); free space or choose another"):
            train(tmp_path, steps=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / STATE_FILE).read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    assert train(tmp_path, steps=4).steps == 4


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_state(tmp_path):
    class Poisoned(NoiseClips):
        def sample(self, index, generator):
            sample = super().sample(index, generator)
            if index >= 8:
                sample.latent[0] = float("nan")
            return sample

    with pytest.raises(FloatingPointError, match="lower the rate.* the state of step 3 is kept"):
        train(tmp_path, source=Poisoned())
    assert state_step(tmp_path) == 3
