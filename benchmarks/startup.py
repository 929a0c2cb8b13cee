"""How much processor time passes before anything runs: `--help`, `plan`, the package, and the node pack in ComfyUI?"""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from .options import Setting
from .results import Report
from .rss import ROOT

CPU, GPU = ("small", "14x128x128"), ("small", "14x128x128")
LEAST = 5  # rounds
TORCH = "import torch, numpy, PIL.Image, safetensors.torch, einops"
PACKAGE = "import svd_core; svd_core.load_model, svd_core.animate"
HOST = (
    f"import sys; sys.argv = ['main.py', '--cpu']; import comfy.options; comfy.options.enable_args_parsing(); {TORCH}"
)
HOST += "; import server, execution, nodes, latent_preview, comfy_extras.nodes_video_model"
PACK = f"import importlib.util as u; s = u.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, "
PACK += f"submodule_search_locations=[{str(ROOT)!r}]); m = u.module_from_spec(s); sys.modules['pack'] = m; "
PACK += "s.loader.exec_module(m)"


def run(chosen: Setting) -> Report:
    """Time each start in processes of its own, and beside it what Python, torch or ComfyUI take before."""
    report = chosen.report("startup", "Start-up", ["what", "CPU seconds of our code", "CPU seconds before it"])
    report.unit = "CPU seconds of our code"
    rounds = max(LEAST, chosen.rounds)
    cases = {
        "svd-reel --help": lambda: _command("--help"),
        "svd-reel plan": lambda: _command("plan", "--frames", "25"),
        "import svd_core, with load_model and animate": lambda: _inside(TORCH, PACKAGE, sys.executable, ROOT),
    }
    host, python = os.environ.get("COMFYUI_DIR"), os.environ.get("COMFYUI_PYTHON")
    if host and python:
        cases["the node pack in ComfyUI"] = lambda: _inside(HOST, PACK, python, Path(host))
    for name, case in cases.items():
        case()  # compiles the bytecode
        own, before = (statistics.median(times) for times in zip(*(case() for _ in range(rounds)), strict=True))
        report.rows.append({"what": name, "CPU seconds of our code": own, "CPU seconds before it": before})
        report.bars.append((f"ours, {name}", own))
    report.notes += [
        f"processor time, median of {rounds} processes after one that compiles the bytecode",
        "before it: Python for the commands, torch and other packages for svd_core, ComfyUI for the pack",
    ]
    return report


def _command(*words: str) -> tuple[float, float]:
    """Return the processor time that a command adds to an empty Python process, and the time of that."""
    whole, before = (_of_child([sys.executable, *line]) for line in (["-m", "svd_core", *words], ["-c", "pass"]))
    return whole - before, before


def _of_child(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _called(command, ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _inside(first: str, code: str, program: str, folder: Path) -> tuple[float, float]:
    """Return the processor time of `code` in a process that ran `first`, and the time before it."""
    clock = "import time; {} = time.process_time()"
    script = "\n".join([first, clock.format("start"), code, clock.format("end"), "print(end - start, start)"])
    own, before = _called([program, "-c", script], folder).split()[-2:]
    return float(own), float(before)


def _called(command: list[str], folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout
