"""Measure how many operations per second a device computes."""

import time

import torch


@torch.no_grad()
@torch.no_grad()
def measure_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the operations per second of `device` with a matrix product and a convolution, in about 0.3 seconds."""
    side = 4096 if device.type == "cuda" else 512
    left = torch.randn(side, side, device=device).to(dtype)
    picture = torch.randn(1, 256, 64, 64, device=device).to(dtype)
    kernel = torch.randn(256, 256, 3, 3, device=device).to(dtype)

    def seconds(run, flops: float) -> float:
        run()
        _wait(device)
        start, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - start < 0.1:
            run()
            count += 1
            _wait(device)
        return (time.perf_counter() - start) / count / flops

    product = seconds(lambda: left @ left, 2.0 * side**3)
    convolution = seconds(lambda: torch.conv2d(picture, kernel, padding=1), 2.0 * 9 * 256**2 * 64**2)
    return 1 / (0.65 * product + 0.35 * convolution)  # convolutions are 35 % of a pass


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
