"""`svd-reel doctor`: check this machine with a model file, and measure what gains on it."""

import argparse

from ..doctor.examine import FULL, QUICK, examine
from ..doctor.profile import profile_path, write_profile
from ..files import write_text
from .models import computing_device
from .outputs import check_outputs
from .progress import Progress


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`."""
    parser.description = (
        "Check a model file on this machine: whether the file is whole, whether half precision works, whether memory "
        "limits leave the clip as it is, how fast steps are, and which options gain. The result is printed, and "
        "a profile is written that the automatic choices of other commands follow on graphics cards. It takes a few "
        "minutes and needs no network."
    )
    parser.set_defaults(run=run_doctor)
    parser.add_argument(
        "--model",
        default="nano",
        metavar="nano|FILE|FOLDER",
        help="checkpoint to check: a file, a diffusers folder, or nano (default: nano)",
    )
    parser.add_argument(
        "--complete-from", metavar="FILE", help="full checkpoint that supplies the parts missing from --model"
    )
    parser.add_argument(
        "--device", default="auto", help="device to check: cpu, cuda, cuda:1, mps (default: the fastest available)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="only read the header of the file, use smaller clips, and compile nothing: less than a minute",
    )
    parser.add_argument("--report", metavar="FILE.md", help="write the page to paste into an issue to this file")
    parser.add_argument(
        "--profile",
        metavar="FILE.json",
        help="write the profile to this file, which nothing reads by itself (default: the user's folder for settings)",
    )
    parser.add_argument("--no-profile", action="store_true", help="write no profile")
    parser.add_argument("--quiet", action="store_true", help="print no progress")


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings, write the page and the profile; return 1 if something is wrong."""
    if options.profile and options.no_profile:
        raise ValueError("--profile names a file and --no-profile writes none; leave one of them out")
    files = {"--model": None if options.model == "nano" else options.model, "--complete-from": options.complete_from}
    check_outputs({"--report": options.report, "--profile": options.profile}, files)
    device = computing_device(options.device)
    with Progress(options.quiet) as progress:
        made = examine(
            options.model,
            device,
            complete_from=options.complete_from,
            extent=QUICK if options.quick else FULL,
            on_work=lambda what: progress.say(f"{what} ...") if what else None,
        )
    print(made.diagnosis.text(), flush=True)
    if options.report:
        write_text(options.report, made.diagnosis.markdown())
        print(options.report, flush=True)
    if not options.no_profile and made.profile is not None:
        print(write_profile(made.profile, device, options.profile or profile_path()), flush=True)
    return 0 if made.diagnosis.is_well else 1
