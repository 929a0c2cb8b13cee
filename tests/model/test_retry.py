"""Out-of-memory errors of every allocator are recognised and handled in the same way."""

import logging
import weakref

import pytest
import torch

from svd_core.cli.main import build_parser, run_command
from svd_core.memory import is_out_of_memory
from svd_core.model.retry import FallbackStep, attempts

PETABYTE = 10**15  # more than any address space has room for


def too_much() -> torch.Tensor:
    return torch.empty(PETABYTE, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1073741824 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"), True),
        (RuntimeError("Invalid buffer size: 42.19 GiB"), True),
        (RuntimeError("HIP error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
        (ValueError("DefaultCPUAllocator: can't allocate memory"), False),
    ],
)
def test_a_shortage_is_told_from_other_errors(error: Exception, expected: bool):
    assert is_out_of_memory(error) is expected


def test_what_this_machines_own_allocator_says_is_known():
    with pytest.raises(RuntimeError) as caught:
        too_much()
    assert is_out_of_memory(caught.value)


def test_work_goes_on_smaller_after_a_real_shortage_and_other_errors_are_not_retried(caplog):
    size = [PETABYTE]
    steps = [FallbackStep("less", lambda: size.__setitem__(0, 4))]

    def tried(work):
        for attempt in attempts(steps):
            with attempt:
                return work()

    with caplog.at_level(logging.WARNING, logger="svd_reel"):
        assert tried(lambda: torch.empty(size[0], dtype=torch.uint8)).shape == (4,)
    assert [record.getMessage() for record in caplog.records] == ["out of memory; retrying with less"]
    with pytest.raises(RuntimeError, match="allocate"):
        tried(too_much)
    with pytest.raises(RuntimeError, match="shapes"):
        tried(lambda: torch.ones(2, 3) @ torch.ones(4, 5))


def test_a_failed_attempt_leaves_no_tensors_behind_when_the_next_one_begins():
    alive, held = [], []

    def work():
        tensor = torch.zeros(1)
        alive.append(weakref.ref(tensor))
        if len(alive) == 1:
            raise MemoryError
        return tensor

    steps = [FallbackStep("less", lambda: held.append(alive[0]()))]
    for attempt in attempts(steps):
        with attempt:
            work()
    assert len(alive) == 2 and held == [None]


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (
            "animate photo.jpg --output clip.mp4",
            "a smaller --width and --height, fewer --frames or --dtype float16",
        ),
        (
            "train clips --output lora.safetensors",
            "a smaller --width and --height, fewer --frames, --checkpointing on or --precision bf16",
        ),
        ("finish clip.mp4 --output film.mp4", "use a smaller --width and --height"),
        ("report clip.mp4", "close other programs"),
    ],
)
def test_every_command_names_what_it_can_do_about_it(capsys, command: str, remedy: str):
    options = build_parser().parse_args(command.split())
    options.run = lambda _: too_much()
    assert run_command(options) == 1
    printed = capsys.readouterr().err
    assert remedy in printed and printed.startswith("svd_core: out of memory; ") and printed.count("\n") == 1
