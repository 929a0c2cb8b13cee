"""The profile of a device: which options were measured to gain on it. `auto` choices follow it on graphics cards.

One small JSON file in the user's folder for settings holds the profiles of all devices of a machine. A profile counts
only for the torch version that it was measured with. On a CPU nothing follows it: a clip there depends on its settings
alone, to the last bit.
"""

import logging
import math
import platform
import sys
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from ..files import JsonError, is_whole, read_json, write_json
from ..model.guidance_modes import use_measured_limit

FORMAT = 1
NAME = "profile.json"
MOST_BYTES = 1_000_000
MOST_PIXELS = 2**40
GAIN = 1.03
"""An option gains if it makes a step at least this many times as fast."""

KERNELS, BF16 = "fused kernels", "bfloat16"
"""Names of options that commands ask the profile about."""

log = logging.getLogger("svd_reel")


@dataclass(frozen=True)
class DeviceProfile:
    """What was measured on one device. factors: option -> how many times as fast a step is with it.

    shared_up_to: latent pixels of the largest clip that gained from both CFG passes in one batch; 0 if none did, None
    if that was not measured.
    """

    factors: dict[str, float] = field(default_factory=dict)
    shared_up_to: int | None = None

    def gains(self, option: str) -> bool | None:
        """Return whether an option gains, None where it was not measured."""
        factor = self.factors.get(option)
        return None if factor is None else factor >= GAIN


def profile_path() -> Path:
    """Return the file of the profiles in the user's folder for settings."""
    home = Path.home()
    if sys.platform == "win32":
        return home / "AppData" / "Local" / "svd-reel" / NAME
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "svd-reel" / NAME
    return home / ".config" / "svd-reel" / NAME


def device_key(device: torch.device) -> str:
    """Return what a profile belongs to: the device's name and the torch version."""
    return f"{device_name(device)}, torch {torch.__version__}"


def device_name(device: torch.device) -> str:
    """Return the name of a card or a processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
    return f"{device.type} {_processor()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def read_profile(device: torch.device, path: str | PathLike | None = None) -> DeviceProfile | None:
    """Return the profile of a device, None where it has none; a damaged file is named in the log and left out."""
    path = Path(path) if path is not None else profile_path()
    if not path.is_file():
        return None
    try:
        stored = _devices(read_json(path, most_bytes=MOST_BYTES))
        return _checked(stored[device_key(device)]) if device_key(device) in stored else None
    except (OSError, JsonError, ValueError) as error:
        log.warning("the profile %s cannot be read (%s); run `svd-reel doctor` again", path, error)
        return None


def write_profile(profile: DeviceProfile, device: torch.device, path: str | PathLike | None = None) -> Path:
    """Write the profile of a device beside those of others, and return the file. A damaged file is replaced."""
    path = Path(path) if path is not None else profile_path()
    try:
        stored = _devices(read_json(path, most_bytes=MOST_BYTES)) if path.is_file() else {}
    except ValueError:
        stored = {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"svd_reel_profile": FORMAT, "devices": {**stored, device_key(device): asdict(profile)}})
    return path


def follow_profile(device: torch.device, path: str | PathLike | None = None) -> DeviceProfile | None:
    """Make the automatic guidance mode of this process follow the profile of a device, and return the profile."""
    profile = None if device.type == "cpu" else read_profile(device, path)
    use_measured_limit(None if profile is None else profile.shared_up_to)
    return profile


def _devices(content: Any) -> dict[str, Any]:
    devices = content.get("devices") if isinstance(content, dict) else None
    if not isinstance(devices, dict) or content.get("svd_reel_profile") != FORMAT:
        raise ValueError(f"it is not a profile of format {FORMAT}")
    return devices


def _checked(raw: Any) -> DeviceProfile:
    """Return a profile of what a file holds; ValueError for anything else."""
    factors = raw.get("factors") if isinstance(raw, dict) else None
    if not isinstance(factors, dict):
        raise ValueError("the device has no factors")
    for name, factor in factors.items():
        if not isinstance(factor, (int, float)) or isinstance(factor, bool) or not 0 < factor < math.inf:
            raise ValueError(f"the factor of {name[:40]!r} is not a number above 0")
    largest = raw.get("shared_up_to")
    if largest is not None and not is_whole(largest, 0, MOST_PIXELS):
        raise ValueError("shared_up_to is not a whole number")
    return DeviceProfile({name: float(factor) for name, factor in factors.items()}, largest)
