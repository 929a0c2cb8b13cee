"""Hooks: what may change the UNet's activations from outside while it runs, and where.

ControlNets, pose nets, camera adapters and a host's patches all work through this one interface; the network knows none
of them. `UNet.forward` without hooks runs its fast path; a `Hooks` whose methods change nothing gives the same result
up to rounding.

A place is ("input", i), ("middle", 0) or ("output", i): the number of a block, in the order in which blocks run.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Place = tuple[str, int]
AttentionFunction = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(q, k, v, heads) -> out, all [rows, length, channels] with the heads side by side."""

SPATIAL, TEMPORAL = "spatial", "temporal"


class BlockHooks:
    """Hooks of one transformer: its spatial block on [N, S, C], then its temporal block on [B * S, T, C].

    `which` is 1 for self-attention and 2 for attention to the context. Methods return what takes the place of their
    input; the row count may change between them, as some patches do. A block whose kind is not in `kinds` runs its fast
    path without any hook.
    """

    kinds: tuple[str, ...] = (SPATIAL, TEMPORAL)

    def begin(self, kind: str, heads: int, head_width: int) -> None:
        """Handle the start of the block of `kind`, SPATIAL or TEMPORAL."""

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Change the inputs of the query, key and value layers."""
        return query, key, value

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        """Return the attention's result before its output layer; `attention` is what runs otherwise."""
        return attention(q, k, v, heads)

    def output(self, which: int, x: Tensor) -> Tensor:
        """Change the attention's result after its output layer, before it is added to the residual stream."""
        return x

    def between(self, x: Tensor) -> Tensor:
        """Change the residual stream between the two attentions."""
        return x


class Hooks:
    """Hooks of one pass of the UNet. Every method does nothing; override what is needed.

    `wraps_layers` asks for `layer` to be called around every layer. Without `uses_embedding` the embedding is made on
    the fast path: `embedding` is not called, and `after_middle` gets None. Rows are video-major, as in `UNet.forward`.
    """

    wraps_layers = False
    uses_embedding = True
    attention: AttentionFunction | None = None
    """What attends in hooked transformers; None for our own."""

    def start(self, x: Tensor, num_frames: int) -> None:
        """Handle the start of a pass with input [B*T, 8, h, w]."""

    def embedding(self, embedding: Tensor) -> Tensor:
        """Change the embedding of the noise level [B*T, E], before the label is added and before any SiLU."""
        return embedding

    def enter(self, place: Place) -> None:
        """Handle the start of a block."""

    def layer(self, layer: nn.Module, h: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the result of one layer; `run` is the layer itself."""
        return run(h)

    def after_input(self, index: int, h: Tensor) -> Tensor:
        """Change the result of an input block before it is stored as a skip."""
        return h

    def after_skip(self, index: int, h: Tensor) -> Tensor:
        """Change the result of an input block for the next block only, after it was stored as a skip."""
        return h

    def after_middle(self, h: Tensor, embedding: Tensor | None) -> Tensor:
        """Change the result of the middle block; the embedding [B*T, E] is without SiLU."""
        return h

    def skip(self, index: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change the inputs of output block `index`: the running activation and its skip, before they are joined.

        A skip of None is left out.
        """
        return h, skip

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        """Return the hooks of the transformer that begins, on [B*T, C, H, W]; None lets it run its fast path."""
        return None

    def leave_transformer(self) -> None:
        """Handle the end of the transformer."""


NO_HOOKS = Hooks()


class Chain(Hooks):
    """Several hooks, each working on what the one before it made."""

    def __init__(self, members: Sequence[Hooks]) -> None:
        self.members = list(members)
        self.wraps_layers = any(member.wraps_layers for member in self.members)
        self.uses_embedding = any(member.uses_embedding for member in self.members)
        self.attention = next((member.attention for member in reversed(self.members) if member.attention), None)

    def start(self, x: Tensor, num_frames: int) -> None:
        for member in self.members:
            member.start(x, num_frames)

    def embedding(self, embedding: Tensor) -> Tensor:
        for member in self.members:
            embedding = member.embedding(embedding)
        return embedding

    def enter(self, place: Place) -> None:
        for member in self.members:
            member.enter(place)

    def layer(self, layer: nn.Module, h: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
        for member in reversed([member for member in self.members if member.wraps_layers]):
            run = _wrapped(member, layer, run)
        return run(h)

    def after_input(self, index: int, h: Tensor) -> Tensor:
        for member in self.members:
            h = member.after_input(index, h)
        return h

    def after_skip(self, index: int, h: Tensor) -> Tensor:
        for member in self.members:
            h = member.after_skip(index, h)
        return h

    def after_middle(self, h: Tensor, embedding: Tensor | None) -> Tensor:
        for member in self.members:
            h = member.after_middle(h, embedding)
        return h

    def skip(self, index: int, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        for member in self.members:
            if skip is not None:
                h, skip = member.skip(index, h, skip)
        return h, skip

    def transformer(self, shape: tuple[int, ...]) -> BlockHooks | None:
        found = [blocks for member in self.members if (blocks := member.transformer(shape)) is not None]
        return BlockChain(found) if len(found) > 1 else next(iter(found), None)

    def leave_transformer(self) -> None:
        for member in self.members:
            member.leave_transformer()


def kinds_of(members: Sequence[BlockHooks]) -> tuple[str, ...]:
    """Return the kinds of blocks that any of these hooks concern."""
    return tuple(kind for kind in (SPATIAL, TEMPORAL) if any(kind in member.kinds for member in members))


class BlockChain(BlockHooks):
    """Several hooks of one transformer; the last one's `attend` is asked first and may call those before it."""

    def __init__(self, members: Sequence[BlockHooks]) -> None:
        self.members = list(members)
        self.kinds = kinds_of(self.members)

    def begin(self, kind: str, heads: int, head_width: int) -> None:
        for member in self.members:
            member.begin(kind, heads, head_width)

    def inputs(self, which: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for member in self.members:
            query, key, value = member.inputs(which, query, key, value)
        return query, key, value

    def attend(self, which: int, q: Tensor, k: Tensor, v: Tensor, heads: int, attention: AttentionFunction) -> Tensor:
        for member in self.members:
            attention = _attending(member, which, attention)
        return attention(q, k, v, heads)

    def output(self, which: int, x: Tensor) -> Tensor:
        for member in self.members:
            x = member.output(which, x)
        return x

    def between(self, x: Tensor) -> Tensor:
        for member in self.members:
            x = member.between(x)
        return x


def _wrapped(member: Hooks, layer: nn.Module, run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda h: member.layer(layer, h, run)


def _attending(member: BlockHooks, which: int, attention: AttentionFunction) -> AttentionFunction:
    return lambda q, k, v, heads: member.attend(which, q, k, v, heads, attention)
