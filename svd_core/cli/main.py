"""The entry of the command line: choose the command, run it, and return its exit code.

The path of every file that a command writes goes to stdout, everything else to stderr. A command's module, and torch
with it, is imported only when that command is named, so that `--help` and `--version` answer at once.

Exit codes: 0, 1 for too little memory (and for a batch with failed clips), 2 for bad input or a failed write, 130 after
Ctrl-C, 143 after SIGTERM.
"""

import argparse
import errno
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from ..version import __version__
from .signals import is_terminated, terminable

COMMANDS = {
    "animate": "make a clip of a picture",
    "orbit": "turn around the object in a picture, with SV3D",
    "doctor": "check this machine with a model file, and measure what gains on it",
    "info": "describe a checkpoint, or print the settings of a clip",
    "batch": "make many clips, and continue after an interruption",
    "report": "measure the motion and the quality of a clip",
    "plan": "print the memory and the time that a clip needs",
    "train": "train a LoRA or the model on videos or photographs",
    "finish": "make a film of a clip: size, frames in between, codec, sound",
    "convert": "save a checkpoint in another precision or layout, or a part of it",
    "lab": "try motion buckets, seeds and noise levels on one picture",
    "storyboard": "make a film of several pictures",
    "edit": "change a clip, and carry an edit of its first frame through it",
    "character": "let pose drawings drive a person, with MimicMotion or ControlNeXt-SVD",
    "depth": "read steady depth or normals from a video, with DepthCrafter or NormalCrafter",
}
COMMAND = "svd-reel"
"""Name of the command that pip installs."""
NO_TORCH = (
    "torch is not installed; install the build for your device as pytorch.org says, or `pip install torch` for a usual "
    "one"
)
BAD_INPUT, FAILED, INTERRUPTED, TERMINATED = 2, 1, 130, 143
MOST_SHOWN = 500
"""Characters of an error; names out of files may have thousands."""
LESS_MEMORY = {
    "width": "a smaller --width and --height",
    "frames": "fewer --frames",
    "checkpointing": "--checkpointing on",
    "precision": "--precision bf16",
    "dtype": "--dtype float16",
}
"""Options that reduce the memory a command needs, where it has them."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence, without the usage that fills the screen."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and exit with 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser(commands: Collection[str] = COMMANDS) -> Parser:
    """Return the parser of all commands; only those in `commands` get their options, at the cost of importing them."""
    parser = Parser(prog=_program(), description="Turn a picture into a short clip with Stable Video Diffusion.")
    parser.add_argument("--version", action="version", version=__version__)
    group = parser.add_subparsers(dest="command", required=True)
    for name, summary in COMMANDS.items():
        command = group.add_parser(name, help=summary)
        if name in commands:
            _add_options(name, command)
    return parser


def _program() -> str:
    """Return the words that started this process: the installed command, or the module."""
    return COMMAND if Path(sys.argv[0]).stem == COMMAND else "python -m svd_core"


def _add_options(name: str, parser: Parser) -> None:
    """Import the module of a command and let it add its options."""
    match name:
        case "animate":
            from .animate import add_animate as add
        case "orbit":
            from .orbit import add_orbit as add
        case "doctor":
            from .doctor import add_doctor as add
        case "info":
            from .info import add_info as add
        case "batch":
            from .batch import add_batch as add
        case "report":
            from .report import add_report as add
        case "plan":
            from .plan import add_plan as add
        case "train":
            from .train import add_train as add
        case "finish":
            from .finish import add_finish as add
        case "convert":
            from .convert import add_convert as add
        case "lab":
            from .lab import add_lab as add
        case "storyboard":
            from .storyboard import add_storyboard as add
        case "edit":
            from .edit import add_edit as add
        case "character":
            from .character import add_character as add
        case "depth":
            from .depth import add_depth as add
    add(parser)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argparse exits by itself on --help and on options it cannot parse."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = build_parser(words[:1]).parse_args(words)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return _fail(NO_TORCH, BAD_INPUT)
    return run_command(options)


def run_command(options: argparse.Namespace) -> int:
    """Run the command of parsed options and return its exit code; every expected failure is one sentence on stderr."""
    try:
        with terminable():
            code = options.run(options)
            sys.stdout.flush()  # a full disk behind `> file` is an error of the command, too
            return code or 0
    except (ValueError, OSError, FloatingPointError) as error:
        if isinstance(error, BrokenPipeError) and _reader_left():
            return 0
        return _fail(_sentence(error), BAD_INPUT)
    except (RuntimeError, MemoryError) as error:
        from ..memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail(f"out of memory; {_remedy(options)}", FAILED)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped, no clip was written", TERMINATED if is_terminated(stop) else INTERRUPTED)


def _sentence(error: Exception) -> str:
    """Return the message of an error; for a system error without a sentence of ours, the file and the reason."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    remedy = "; free space or choose another folder" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{error.filename}: {error.strerror}{remedy}" if error.filename else f"{error.strerror}{remedy}"


def _reader_left() -> bool:
    """Return whether the broken pipe is stdout, whose reader has closed it: pipes to workers break too."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return True
    return False


def _discard_stdout() -> None:
    """Send what is left in the buffer of stdout nowhere: Python would fail once more on its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _remedy(options: argparse.Namespace) -> str:
    """Return what the user can change so that this command needs less memory."""
    if not hasattr(options, "width"):
        return "close other programs, or use a computer with more"
    wanted = {name: words for name, words in LESS_MEMORY.items() if hasattr(options, name)}
    *words, last = wanted.values()
    return f"use {', '.join(words)} or {last}" if words else f"use {last}"


def _fail(error: object, code: int) -> int:
    """Print the error and return the exit code. A longer text, such as one with a name of a table, loses its middle."""
    text = str(error)
    half = MOST_SHOWN // 2
    print(f"svd_core: {text if len(text) <= MOST_SHOWN else f'{text[:half]}...{text[-half:]}'}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()
    return code
