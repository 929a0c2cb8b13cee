"""Progress on stderr: a bar on a terminal, a line per tenth elsewhere, nothing when quiet."""

import io
import re
import sys

import pytest

from svd_core.cli.progress import Progress

NUMBERS = r"sampling: 50% 10/20 \[\d\d:\d\d<\d\d:\d\d, +[0-9.]+(step/s|s/step)\]"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def count(progress: Progress, total: int = 20, label: str = "sampling") -> None:
    for done in range(1, total + 1):
        progress.count(label, done, total, unit="step")


def test_a_log_file_gets_a_line_per_tenth_with_rate_and_time_left(capsys):
    with Progress(quiet=False) as progress:
        count(progress)
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"sampling: (\d+)% ", line).group(1) for line in lines] == [str(10 * n) for n in range(1, 11)]
    assert re.fullmatch(NUMBERS, lines[4]), lines[4]


def test_a_terminal_gets_a_bar_that_ends_with_its_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(quiet=False) as progress:
        count(progress)
        progress.count("decoding", 3, 10)
    text = sys.stderr.getvalue()
    assert "\r" in text and text.endswith("\n")
    assert re.search(r"sampling: 100%.* 20/20 \[.*step", text)


def test_messages_do_not_break_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(quiet=False) as progress:
        progress.count("sampling", 1, 20)
        progress.say("panel 1 of 2: made")
    shown = sys.stderr.getvalue()
    assert re.search(r"\rpanel 1 of 2: made\n", shown), "the bar is cleared before the message"


def test_notes_follow_the_numbers(capsys):
    with Progress(quiet=False) as progress:
        progress.count("training", 1, 2, unit="step", note="loss 0.1234")
    assert capsys.readouterr().err.rstrip().endswith(", loss 0.1234]")


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_quiet_prints_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    with Progress(quiet=True) as progress:
        progress.say("a message")
        count(progress)
    assert sys.stderr.getvalue() == ""


def test_the_next_clip_starts_a_new_count(capsys):
    with Progress(quiet=False) as progress:
        count(progress, total=2)
        count(progress, total=2)
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_decoding_is_counted_in_percent(capsys):
    with Progress(quiet=False) as progress:
        for done in range(1, 301):
            progress.on_decode(done, 300)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and lines[-1].startswith("decoding: 100% 100/100 [")
