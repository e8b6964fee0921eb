"""m-GRU segments with recurrent layers; GTRM then refines its segments with graphs.

Huang, Sugano, Sato: Improving Action Segmentation via Graph-Based Temporal Reasoning,
CVPR 2020. The paper gives neither the widths nor the way from refined segments to
frames; our own choices are marked "ours".
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from svtas_jax.models.layers import (
    Dropout,
    Linear,
    torch_uniform_of,
    where_valid,
)
from svtas_jax.structs import Contexts

MAX_SEGMENTS = 256  # nodes of a graph; the last node holds any further segments
NEIGHBOURS = 2  # the class graph joins segments whose indices differ by at most this
GRAPH_LAYERS = 2


class MultiGRU(nn.Module):
    """Bidirectional GRU layers over projected features, then a linear classifier.

    The forward memory crosses chunks; the backward one stays within its chunk. With
    `refined` (GTRM), two graphs refine the GRUs' segments: one moves the borders, the
    other changes the classes.
    """

    num_classes: int
    features: int = 64
    num_layers: int = 2
    dropout: float = 0.5
    refined: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    def initial_context(self, batch_size: int) -> tuple[jax.Array, ...]:
        """Returns the memory of new streams: zeros (B, features) for each layer."""
        # Separate arrays, because a training step donates each buffer.
        return tuple(
            jnp.zeros((batch_size, self.features)) for _ in range(self.num_layers)
        )

    @nn.compact
    def __call__(
        self, context: Contexts, x: jax.Array, valid: jax.Array, *, train: bool
    ) -> tuple[Contexts, jax.Array, jax.Array]:
        """Returns the next context, logits (1, B, T, K), or (2, B, T, K) if `refined`
        (the refined ones last), and the projected input (B, T, features); the
        arguments are those of `TCN`."""
        x = Linear(self.features, dtype=self.dtype, name="project")(
            where_valid(valid, x)
        )
        projected = hidden = where_valid(valid, x)
        next_context = []
        for index in range(self.num_layers):
            hidden = Dropout(self.dropout)(hidden, train=train)
            memory, hidden = self._both_ways(index, context[index], hidden, valid)
            next_context.append(memory)
        logits = Linear(self.num_classes, dtype=self.dtype, name="conv_out")(hidden)
        logits = where_valid(valid, logits.astype(jnp.float32))
        stages = [logits]
        if self.refined:
            reasoning = SegmentReasoning(
                self.num_classes, self.features, self.dtype, name="gtrm"
            )
            stages.append(reasoning(hidden, logits, valid))
        return tuple(next_context), jnp.stack(stages), projected

    def _both_ways(self, index, context, x, valid):
        ahead = GRU(self.features, self.dtype, name=f"forward_{index}")
        back = GRU(self.features, self.dtype, name=f"backward_{index}")
        memory, past = ahead(context, x, valid)
        _, future = back(jnp.zeros_like(memory), x[:, ::-1], valid[:, ::-1])
        return memory, jnp.concatenate((past, future[:, ::-1]), axis=-1)


class GRU(nn.Module):
    """Cho et al., EMNLP 2014, in cuDNN's form: the reset gate multiplies the product
    of the memory and its kernel."""

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, memory: jax.Array, x: jax.Array, valid: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the memory after the last step (B, features), and after every step
        (B, T, features), zero in invalid steps, which leave the memory unchanged."""
        init, width = torch_uniform_of(self.features), 3 * self.features
        kernel = self.param("kernel", init, (x.shape[-1], width)).astype(self.dtype)
        recurrent = self.param("recurrent", init, (self.features, width))
        bias = self.param("bias", init, (2, width))
        gates = jnp.matmul(x.astype(self.dtype), kernel).astype(jnp.float32) + bias[0]

        def step(memory, inputs):
            given, valid = inputs
            own = jnp.matmul(memory, recurrent) + bias[1]
            reset, update = (
                nn.sigmoid(given[:, part] + own[:, part])
                for part in (slice(self.features), slice(self.features, -self.features))
            )
            new = nn.tanh(given[:, -self.features :] + reset * own[:, -self.features :])
            after = new + update * (memory - new)
            memory = jnp.where(valid[:, None], after, memory)
            return memory, memory

        steps = (jnp.swapaxes(gates, 0, 1), valid.T)
        memory, outputs = jax.lax.scan(step, memory, steps)
        return memory, where_valid(valid, jnp.swapaxes(outputs, 0, 1))


class SegmentReasoning(nn.Module):
    """Two graph networks over the segments of a first segmentation."""

    num_classes: int
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, hidden: jax.Array, logits: jax.Array, valid: jax.Array
    ) -> jax.Array:
        """Maps hidden (B, T, D) and logits (B, T, K) to refined logits (B, T, K)."""
        index, segments = find_segments(logits, valid)
        votes = average_segments(logits, index, segments.real)
        nodes = average_segments(hidden, index, segments.real)
        nodes = Linear(self.features, dtype=self.dtype, name="embed")(
            jnp.concatenate((nodes, nn.softmax(votes)), axis=-1)
        )
        moved = self._refine("borders", nodes, segments.near(), 2)
        change = self._refine("classes", nodes, segments.adjacent(), self.num_classes)
        # A border moves by up to half its segment's length (ours).
        moved = 0.5 * jnp.tanh(moved) * segments.length[..., None]
        member = segments.membership(moved, hidden.shape[1])
        refined = jnp.einsum("btm,bmk->btk", member, votes + change)
        return where_valid(valid, refined)

    def _refine(self, name, nodes, edges, outputs):
        for layer in range(GRAPH_LAYERS):
            sums = jnp.einsum("bmn,bnd->bmd", edges, nodes)
            sums = Linear(self.features, dtype=self.dtype, name=f"{name}_{layer}")(sums)
            norm = nn.LayerNorm(dtype=self.dtype, name=f"{name}_norm_{layer}")
            nodes = nodes + nn.relu(norm(sums))
        # Zeros, so that training begins without any refinement.
        zeros = nn.initializers.zeros
        last = nn.Dense(outputs, kernel_init=zeros, name=f"{name}_out")
        return last(nodes.astype(jnp.float32))


@flax.struct.dataclass
class Segments:
    """The runs of equal predicted classes in each video, padded to M segments.

    Attributes:
        real: (B, M) bool, False where a segment is padding.
        start, end: (B, M) float32, in steps; `end` is one past the last.
    """

    real: jax.Array
    start: jax.Array
    end: jax.Array

    @property
    def length(self) -> jax.Array:
        """(B, M) in steps, zero in padding."""
        return jnp.where(self.real, self.end - self.start, 0)

    def near(self) -> jax.Array:
        """Edges (B, M, M) that decay with the distance of the mid-points, in units of
        the mean segment length (ours); rows sum to 1."""
        middle = (self.start + self.end) / 2
        scale = jnp.sum(self.length, 1) / jnp.maximum(jnp.sum(self.real, 1), 1)
        apart = jnp.abs(middle[:, :, None] - middle[:, None])
        apart = apart / jnp.maximum(scale, 1)[:, None, None]
        return _rows_to_one(jnp.exp(-apart), self.real)

    def adjacent(self) -> jax.Array:
        """Edges (B, M, M) between segments whose indices differ by `NEIGHBOURS` at
        most; rows sum to 1."""
        index = jnp.arange(self.real.shape[1])
        close = jnp.abs(index[:, None] - index) <= NEIGHBOURS
        edges = jnp.broadcast_to(close, (self.real.shape[0], *close.shape))
        return _rows_to_one(edges.astype(jnp.float32), self.real)

    def membership(self, moved: jax.Array, num_steps: int) -> jax.Array:
        """Returns the weight of each segment in each step, (B, T, M), after its borders
        move by `moved` (B, M, 2) steps. Borders are soft, so that the loss of the steps
        alone can train them (ours)."""
        middle = jnp.arange(num_steps)[:, None] + 0.5
        start = (self.start + moved[..., 0])[:, None]
        end = (self.end + moved[..., 1])[:, None]
        inside = nn.log_sigmoid(middle - start) + nn.log_sigmoid(end - middle)
        inside = jnp.where(self.real[:, None], inside, -1e9)
        return nn.softmax(inside)


def find_segments(logits: jax.Array, valid: jax.Array) -> tuple[jax.Array, Segments]:
    """Finds the runs of the most likely class.

    Args:
        logits: (B, T, K).
        valid: (B, T) bool; the valid steps come first.

    Returns:
        The index of every step's segment, (B, T) int32, and the segments.
    """
    labels = jnp.where(valid, jnp.argmax(logits, axis=-1), -1)
    new = jnp.diff(labels, axis=1, prepend=jnp.full_like(labels[:, :1], -2)) != 0
    index = jnp.minimum(jnp.cumsum(new, axis=1) - 1, MAX_SEGMENTS - 1)
    index = jnp.where(valid, index, MAX_SEGMENTS)  # one more segment for padding
    steps = jnp.broadcast_to(
        jnp.arange(labels.shape[1], dtype=jnp.float32), index.shape
    )
    count = _sum_by_segment(jnp.ones_like(steps)[..., None], index)[..., 0]
    first = jax.vmap(lambda s, i: jax.ops.segment_min(s, i, MAX_SEGMENTS + 1))(
        steps, index
    )[:, :-1]
    real = count > 0
    start = jnp.where(real, first, 0)
    return index, Segments(real, start, start + count)


def average_segments(x: jax.Array, index: jax.Array, real: jax.Array) -> jax.Array:
    """Averages (B, T, D) over each segment: (B, M, D), zero in padding."""
    count = _sum_by_segment(jnp.ones((*x.shape[:2], 1)), index)
    mean = _sum_by_segment(x.astype(jnp.float32), index) / jnp.maximum(count, 1)
    return jnp.where(real[..., None], mean, 0)


def _sum_by_segment(x, index):
    return jax.vmap(lambda x, i: jax.ops.segment_sum(x, i, MAX_SEGMENTS + 1))(x, index)[
        :, :-1
    ]


def _rows_to_one(edges, real):
    edges = jnp.where(real[:, None, :] & real[:, :, None], edges, 0)
    return edges / jnp.maximum(jnp.sum(edges, axis=-1, keepdims=True), 1e-6)
