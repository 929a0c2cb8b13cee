"""Report which tensors of a LoRA are used, counted and in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..checkpoints.source import some
from ..files import printable

EXAMPLES = 3


@dataclass(frozen=True)
class LoraReport:
    """Tensors of one LoRA by their use; every tensor of the file is in exactly one of the three groups.

    matched: kind of layer -> tensors, with `layers` their number of layers. unmatched: reason or first words of the
    name -> tensors that fit no layer of this model. skipped: reason -> tensors that are not read.
    """

    name: str
    ranks: tuple[int, ...] = ()
    matched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    unmatched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of tensors in the file."""
        return sum(_count(group) for group in (self.matched, self.unmatched, self.skipped))

    def warning(self) -> str | None:
        """Return one sentence with examples if not everything is used, else None."""
        parts = [_examples(self.unmatched, "fit no layer"), _examples(self.skipped, "were skipped")]
        left = [part for part in parts if part]
        if not left:
            return None
        return f"{self.name}: {_count(self.matched)} of {self.total} tensors are used; {'; '.join(left)}"

    def text(self) -> str:
        """Return several lines: what matched by kind of layer, what did not, what was skipped and why."""
        ranks = ", ".join(map(str, self.ranks))
        lines = [f"{self.name}: {_count(self.matched)} of {self.total} tensors matched, rank {ranks or 'unknown'}"]
        lines += [f"  {kind}: {len(keys)} tensors, {self.layers[kind]} layers" for kind, keys in self.matched.items()]
        for title, groups in (("unmatched", self.unmatched), ("skipped", self.skipped)):
            lines += [f"  {title}, {why}: {len(keys)}, such as {some(keys, 1)}" for why, keys in groups.items()]
        return "\n".join(lines)


def _count(groups: Mapping[str, tuple[str, ...]]) -> int:
    return sum(len(keys) for keys in groups.values())


def _examples(groups: Mapping[str, tuple[str, ...]], what: str) -> str:
    if not groups:
        return ""
    reasons = ", ".join(f"{len(keys)} {why}" for why, keys in groups.items())
    examples = [keys[0] for keys in groups.values()][:EXAMPLES]
    return f"{_count(groups)} {what} ({reasons}), such as {', '.join(map(printable, examples))}"
