"""Kill commands at every event that changes a file, and check what is left.

    python -m tests.hostile.kills --kills 1000 [--command NAME ...] [--model FILE]

Each run is a process, forked from one that has imported everything. At the n-th time that it opens a file for writing,
makes, renames, removes or flushes one, it gets SIGKILL; more kills than there are events come at random moments. Then
every file that has its final name must be whole, a second run must succeed and give the same files bit for bit, and no
temporary file may be left. The second run is killed by nothing.
"""

import argparse
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree"}
COMMANDS = (
    "animate", "animate frames", "batch", "character", "convert", "convert folder", "depth", "finish", "lab", "orbit",
    "plan", "report", "storyboard", "train",
)  # fmt: skip
VARIES = ("manifest.jsonl", "log.csv", "loss.png", "state.safetensors")
"""Files that hold the time that a run took: they are compared by their presence only."""


def _child(work: Callable[[], int], folder: Path, kill_at: int, report: int) -> None:
    """Run `work` in this process, which ends here; count events in `folder` and die at event `kill_at` (0: never)."""
    count, inside = 0, str(folder)

    def event() -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(name: str, arguments: tuple) -> None:
        if name not in EVENTS or not arguments or not str(arguments[0]).startswith(inside):
            return
        if name == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        event()

    fsync = os.fsync

    def flushed(handle: int) -> None:
        event()
        fsync(handle)

    os.fsync = flushed
    sys.addaudithook(hook)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        code = work()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        code = 99
    os.write(report, f"{code} {count}".encode())
    os._exit(0)


def forked(work: Callable[[], int], folder: Path, kill_at: float = 0) -> tuple[int | None, int]:
    """Return the exit code of `work` (None: killed) and the number of its events in `folder`.

    kill_at: number of the event at which it is killed, 0 for none, or seconds if it is a float.
    """
    reading, writing = os.pipe()
    number = os.fork()
    if number == 0:
        os.close(reading)
        _child(work, folder, kill_at if isinstance(kill_at, int) else 0, writing)
    os.close(writing)
    if isinstance(kill_at, float):
        select.select([reading], [], [], kill_at)
        os.kill(number, signal.SIGKILL)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(number, 0)
    if not text:
        return None, 0
    code, count = text.split()
    return int(code), int(count)


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def again(arguments: list[str], out: Path) -> list[str]:
    """Return the command that continues after a kill: the same one, which for a begun training needs `--resume`."""
    return [*arguments, *(["--resume"] if any(out.glob("*.run")) else [])]


def faults_of(arguments: list[str], out: Path, whole: dict[str, bytes], kill_at: float) -> tuple[bool, list[str]]:
    """Kill a command at an event, or after seconds, and run it again; return if it was killed, and what is wrong."""
    from svd_core.cli.main import main

    when = f"event {kill_at}" if isinstance(kill_at, int) else f"after {kill_at:.3f} s"
    code, _ = forked(lambda: main(arguments), out, kill_at)
    if code is not None and isinstance(kill_at, int):
        return False, [f"{when} was not reached (exit code {code})"]
    killed, faults = code is None, []
    for name, content in files_of(out).items():
        visible = not any(part.startswith(".") for part in Path(name).parts)
        if visible and name in whole and content != whole[name] and Path(name).name not in VARIES:
            faults.append(f"{when}: {name} is not whole")
    words, is_whole = again(arguments, out), files_of(out) == whole
    code, _ = forked(lambda: main(words), out)
    if code != 0 and not is_whole:  # a finished result may be refused as an output
        return killed, [*faults, f"{when}: the second run ended with {code}"]
    left = files_of(out)
    for name in sorted(set(left) ^ set(whole)):
        faults.append(f"{when}: {name} is {'left over' if name in left else 'missing'} after the second run")
    for name in sorted(set(left) & set(whole)):
        if left[name] != whole[name] and Path(name).name not in VARIES:
            faults.append(f"{when}: {name} differs after the second run")
    return killed, faults


def kill_command(name: str, arguments: list[str], out: Path, most: int) -> tuple[int, list[str]]:
    """Kill a command at its events, and for more kills than these at random moments; return kills and faults."""
    from svd_core.cli.main import main

    def clean() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    clean()
    begin = time.monotonic()
    code, events = forked(lambda: main(arguments), out)
    seconds = time.monotonic() - begin
    whole = files_of(out)
    if code != 0:
        return 0, [f"{name} ended with {code}"]
    count, kills, faults, source = min(most, events), 0, [], random.Random(name)
    places = sorted({1 + round(step * (events - 1) / max(1, count - 1)) for step in range(count)})
    # Some moments come when the command is done already, so there are more of them than kills.
    for place in [*places, *(source.uniform(0, seconds) for _ in range(3 * (most - events)))]:
        if kills == most:
            break
        clean()
        killed, found = faults_of(arguments, out, whole, place)
        kills += killed
        faults += [f"{name}, {fault} (of {events} events)" for fault in found]
    return kills, faults


def run(kills: Mapping[str, int], folder: Path, model: str = "") -> tuple[int, list[str]]:
    """Kill commands as often as asked for; return the number of kills, and the faults.

    kills: by names of COMMANDS. folder: for inputs and outputs; the inputs are made in the first run there. model: of
    the commands that need any; "" for a random one of few layers.
    """
    from svd_core.cli.main import build_parser
    from tests.helpers.commands import calls, family_calls, folder_calls, write_family, write_inputs
    from tests.helpers.nodes_pack import write_few_layers

    build_parser()  # imports all commands once, before the forks
    inputs, out = folder / "in", folder / "out"
    few_layers = inputs / "model.safetensors"
    if not few_layers.exists():
        write_inputs(inputs)
        write_family(inputs)
        write_few_layers(few_layers)
    model = model or str(few_layers)
    given = {**calls(inputs, out, model), **folder_calls(inputs, out, model), **family_calls(inputs, out)}
    total, faults = 0, []
    for name, most in kills.items():
        count, found = kill_command(name, given[name], out, most)
        print(f"{name}: {count} kills, {len(found)} faults", flush=True)
        total, faults = total + count, faults + found
    return total, faults


def main() -> int:
    """Kill the commands and print the figures; the exit code is 1 if a fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="kills of all commands together (1000)")
    parser.add_argument("--command", action="append", default=[], help="only this command; may be repeated")
    parser.add_argument("--model", default="", help="model of the commands that need one (random)")
    asked = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as folder:
        names = asked.command or COMMANDS
        share = -(-asked.kills // len(names))
        total, faults = run(dict.fromkeys(names, share), Path(folder), asked.model)
    print("\n".join([*faults, f"{total} kills, {len(faults)} faults"]))
    return int(bool(faults))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads do not survive a fork
    sys.exit(main())
