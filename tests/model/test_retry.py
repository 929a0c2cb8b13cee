"""Memory that runs out is known as such whatever allocator says it, and answered in the same way."""

import pytest
import torch

from svd_core.cli.main import build_parser, run_command
from svd_core.memory import is_out_of_memory
from svd_core.model.retry import retrying

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


def test_work_goes_on_smaller_after_a_real_shortage_and_other_errors_are_not_retried():
    size = [PETABYTE]
    rungs = [("less", lambda: size.__setitem__(0, 4))]
    assert retrying(lambda: torch.empty(size[0], dtype=torch.uint8), rungs).shape == (4,)
    with pytest.raises(RuntimeError, match="allocate"):
        retrying(too_much, rungs)
    with pytest.raises(RuntimeError, match="shapes"):
        retrying(lambda: torch.ones(2, 3) @ torch.ones(4, 5), rungs)


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
    assert remedy in printed and printed.startswith("svd_core: memory ran out; ") and printed.count("\n") == 1
