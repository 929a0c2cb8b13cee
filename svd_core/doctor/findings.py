"""What the checks found: sentences with a verdict, tables, and the page that holds them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

VERDICTS = ("good", "note", "bad")
"""good: as it should be. note: worth knowing, but nothing is broken. bad: something is wrong, and the advice helps."""

INTRODUCTION = (
    "Written by `svd-reel doctor`. Paste the whole page into an issue; it holds no pictures and no paths besides the "
    "name of the model file."
)


@dataclass(frozen=True)
class Finding:
    """One check. `seen` says what was seen, in one or two sentences; `advice` what to do, empty for nothing."""

    check: str
    verdict: str
    seen: str
    advice: str = ""

    def text(self) -> str:
        """Return the finding as a line."""
        return f"{self.verdict:<4}  {self.check}: {self.seen}" + (f" {self.advice}" if self.advice else "")


@dataclass(frozen=True)
class Table:
    """Numbers behind findings. rows: one text per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table with its title."""
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join(lines)


@dataclass
class Diagnosis:
    """All findings and tables of one run. machine: (name, value) of what the machine is."""

    machine: Sequence[tuple[str, str]]
    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Return whether no check is bad."""
        return all(finding.verdict != "bad" for finding in self.findings)

    def summary(self) -> str:
        """Return one sentence over all checks."""
        counts = {verdict: sum(one.verdict == verdict for one in self.findings) for verdict in VERDICTS}
        if self.is_well:
            return f"All {len(self.findings)} checks passed, {counts['note']} of them with a note."
        return f"{counts['bad']} of {len(self.findings)} checks found something wrong; the lines marked bad say what."

    def text(self) -> str:
        """Return the findings as lines for a terminal."""
        return "\n".join([*(finding.text() for finding in self.findings), self.summary()])

    def markdown(self) -> str:
        """Return the page to paste into an issue."""
        lines = ["# SVD Reel: check of a machine", "", INTRODUCTION, "", self.summary(), ""]
        lines += ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in self.machine)]
        lines += ["", "| check | verdict | what was seen | what to do |", "|---|---|---|---|"]
        for one in self.findings:
            cells = (one.check, one.verdict, one.seen, one.advice or "nothing")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return "\n".join([*lines, "", *(table.markdown() + "\n" for table in self.tables)]).rstrip() + "\n"
