"""The transformer: embed, run the blocks, normalise, project to the vocabulary or to labels.

Decoder and encoder are one network under another mask: attention is causal or it is not, by the spec, or an `order` of
the tokens says who sees whom. One forward serves training, packed documents, padded batches and cached generation; only
positions, mask and cache differ, and all three are settled here, once, before the first block. The model computes no
loss: `project=False` leaves the vocabulary product, the largest of a small model, to an objective that runs it in
chunks.

Ref: Attention Is All You Need, arXiv:1706.03762. Ref: arXiv:1810.04805 (bidirectional).
Ref: Language Models are Unsupervised Multitask Learners (2019).
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from smelt.core.errors import UsageError
from smelt.models.heads import HeadTransform, Output, Pooler, TaskHead
from smelt.nn.block import Block
from smelt.nn.cache import KVCache, LayerCache, slots_behind
from smelt.nn.masks import Rules, attention_mask, relative_bias, with_prefix
from smelt.nn.norms import make_norm
from smelt.nn.positions import context_bounds, context_positions, positions_in_segments, rotary_tables, sinusoidal
from smelt.nn.prefix import KeysValues, Prefix, Prefixed
from smelt.nn.recurrent import RecurrentLayer
from smelt.nn.spec import AttentionSpec, ContextSpec, ModelSpec

Inputs = tuple[Tensor, Tensor | None, Tensor | None, Tensor | Rules | None, LayerCache | None]
Shared = dict[AttentionSpec, tuple[Tensor | None, Tensor | None, Tensor | Rules | None]]


def drops(module: nn.Module) -> bool:
    """Tell whether a module draws what it drops, which must be the same when it is run again: adapters may."""
    return module.training and any(isinstance(part, nn.Dropout) and part.p > 0 for part in module.modules())


class Transformer(nn.Module):
    """Turn token ids into hidden states, and these into logits, pooled vectors and labels, as the spec has them.

    An `embedding` given is shared with another network. A `prefix` that is put on a built model stands before every
    text: ids, positions, cache and output are those of the text alone, which has that much less room.
    """

    def __init__(self, spec: ModelSpec, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.gradient_checkpointing = False
        self.prefix: Prefix | None = None
        width = spec.embedding_dim or spec.dim
        rows = spec.max_seq_len + spec.position_offset
        self.token_embedding = nn.Embedding(spec.vocab_size, width) if embedding is None else embedding
        self.position_embedding = nn.Embedding(rows, width) if spec.positions == "learned" else None
        self.type_embedding = nn.Embedding(spec.num_types, width) if spec.num_types else None
        self.embedding_norm = None if spec.embedding_norm is None else make_norm(spec.embedding_norm, width)
        self.widen = None if spec.embedding_dim is None else nn.Linear(width, spec.dim)
        heads = [layer.attention.num_heads for layer in spec.layers]
        self.relative_bias = None if spec.relative is None else nn.Embedding(spec.relative.num_buckets, heads[0])
        distinct = spec.layers[:1] if spec.shared_layers else spec.layers
        self.blocks = nn.ModuleList(Block(layer, spec.dim) for layer in distinct)
        cells = () if spec.recurrent is None else (spec.recurrent,) * spec.recurrent.num_layers
        self.recurrent = nn.ModuleList(RecurrentLayer(cell, spec.dim) for cell in cells)
        self.norm = nn.Identity() if spec.norm is None else make_norm(spec.norm, spec.dim)
        has_head, transform = spec.language_head, spec.head_transform
        self.head_transform = HeadTransform(transform, spec.dim, width) if has_head and transform else None
        wide = spec.dim if transform is None else width
        self.head = nn.Linear(wide, spec.vocab_size, bias=spec.head_bias) if has_head and not spec.tied else None
        tied_bias = has_head and spec.tied and spec.head_bias
        self.tied_bias = nn.Parameter(torch.zeros(spec.vocab_size)) if tied_bias else None
        self.pooler = Pooler(spec.dim) if spec.pooler else None
        self.tasks = nn.ModuleDict({task.name: TaskHead(task, spec.dim) for task in spec.tasks})

    @property
    def head_weight(self) -> Tensor:
        """Return the matrix of the vocabulary projection: (V, D)."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    @property
    def head_bias(self) -> Tensor | None:
        """Return the bias of the vocabulary projection: (V,) or None."""
        return self.tied_bias if self.head is None else self.head.bias

    @property
    def num_virtual_tokens(self) -> int:
        """Return how many virtual tokens stand before each text."""
        return 0 if self.prefix is None else self.prefix.num_tokens

    @property
    def max_text_tokens(self) -> int:
        """Return how many tokens a text may have: the context, less the virtual tokens."""
        return self.spec.max_seq_len - self.num_virtual_tokens

    def head_input(self, hidden: Tensor) -> Tensor:
        """Return what the vocabulary projection multiplies: hidden states (.., D), transformed and scaled."""
        if self.head_transform is not None:
            hidden = self.head_transform(hidden)
        return hidden if self.spec.logit_scale is None else hidden * self.spec.logit_scale

    def project(self, hidden: Tensor) -> Tensor:
        """Map normalised hidden states to logits: (.., D) -> (.., V)."""
        hidden = self.head_input(hidden)
        if self.head is None:
            logits = functional.linear(hidden, self.token_embedding.weight, self.tied_bias)
        else:
            logits = self.head(hidden)
        cap = self.spec.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        order: Tensor | None = None,
        types: Tensor | None = None,
        cache: KVCache | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        project: bool = True,
    ) -> Output:
        """Run the model on ids (B, T); with a cache, ids are the new tokens only and the cache grows in place.

        positions, segments, order and types are (B, T). Segment 0 is padding; a token sees only its own segment, and of
        it, given an `order`, the tokens whose number is not above its own. Positions left out are counted from the
        start of each segment. `memory` (B, S, D) is an encoder's output with its mask. Raises UsageError beyond the
        model's context, and for an order behind cached tokens.
        """
        if order is not None and cache is not None and cache.length:
            raise UsageError("an order of tokens behind cached ones", accepted="an order in the first call of a cache")
        prefix = self._virtual(cache)
        positions, seen = self._place(ids, positions, segments, cache)
        x = self._recur(self._embed(self.look_up(ids), positions, types), seen, cache)  # (B, T, D)
        if self.spec.context is not None:
            positions, order = self._read_context(self.spec.context, ids, positions, segments, order, cache)
        shared = self._shared(positions, seen, order, x, cache, num_virtual=self.num_virtual_tokens)
        router: list[Tensor] = []
        last_inputs: Inputs | tuple[()] = ()
        for index, (block, kind) in enumerate(self._layers()):
            cos, sin, mask = shared[kind]
            kept = None if cache is None else cache.layers[index]
            if prefix is not None:
                kept = Prefixed(*prefix[index], behind=kept)
            last_inputs = (x, cos, sin, mask, kept)
            if cache is not None:
                # Not block(...): a compiled call would be traced again for every length of the cache.
                x, scores = block.forward(*last_inputs, memory, memory_mask)
            elif self.gradient_checkpointing and torch.is_grad_enabled():
                inputs = (*last_inputs, memory, memory_mask)
                x, scores = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=drops(block))
            else:
                x, scores = block(*last_inputs, memory, memory_mask)
            if scores is not None:
                router.append(scores)
        return replace(self._finish(self.norm(x), tuple(router), project), last_inputs=last_inputs)

    def read(self, embedded: Tensor) -> KeysValues:
        """Return the keys and values that each layer makes of embeddings (1, P, D) at the first P positions."""
        num_tokens = embedded.shape[1]
        positions = torch.arange(num_tokens, device=embedded.device)
        x = self._embed(embedded.to(self.token_embedding.weight.dtype), positions, None)
        shared = self._shared(positions, None, None, x, None, num_virtual=0)
        found: KeysValues = []
        for block, kind in self._layers():
            keys, values = (x.new_empty(1, heads, num_tokens, size) for heads, size in kind.cached)
            kept = LayerCache(keys, values)
            x, _ = block.forward(x, *shared[kind], kept)
            found.append((kept.keys, kept.values))
        return found

    def _virtual(self, cache: KVCache | None) -> KeysValues | None:
        """Return the keys and values of the virtual tokens, if any; a cache keeps those of its first call."""
        if self.prefix is None:
            return None
        if cache is None:
            found: KeysValues = self.prefix(self.read)
            return found
        if cache.prefix is None:
            cache.prefix = self.prefix(self.read)
        return cache.prefix

    def _read_context(
        self,
        spec: ContextSpec,
        ids: Tensor,
        positions: Tensor,
        segments: Tensor | None,
        order: Tensor | None,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Settle both positions (2, B, T) and the order, from where each text's context ends; a cache remembers it."""
        counted = positions.expand(ids.shape)
        if cache is not None and cache.length and cache.context is not None:
            return context_positions(counted, *cache.context), None  # all behind the context: causal
        ends, blanks = context_bounds(ids, counted, segments, spec)
        if cache is not None:
            cache.context = ends[:, -1:], blanks[:, -1:]
        both = context_positions(counted, ends, blanks)
        return both, both[1] if order is None else order

    def _layers(self) -> Iterator[tuple[Block, AttentionSpec]]:
        """Yield each layer's block, the one that all share where they do, and its kind of attention."""
        for index, layer in enumerate(self.spec.layers):
            yield self.blocks[0 if self.spec.shared_layers else index], layer.attention  # type: ignore[misc]

    def _recur(self, x: Tensor, seen: Tensor | None, cache: KVCache | None) -> Tensor:
        """Run the recurrent layers, if any; a text begins where the segment is not that of the slot before."""
        starts = None
        if len(self.recurrent) and seen is not None:
            starts = functional.pad(seen[:, 1:] != seen[:, :-1], (1, 0))[:, -x.shape[1] :]
        for index, layer in enumerate(self.recurrent):
            if cache is None and self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(layer, x, starts, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, starts, None if cache is None else cache.states[index])
        return x

    def _finish(self, hidden: Tensor, router: tuple[Tensor, ...], project: bool) -> Output:
        pooled = None if self.pooler is None else self.pooler(hidden)
        tasks = {name: head(hidden, pooled) for name, head in self.tasks.items()}
        logits = self.project(hidden) if project and self.spec.language_head else None
        return Output(logits, hidden, router, pooled, tasks)

    def _shared(
        self,
        positions: Tensor,
        seen: Tensor | None,
        order: Tensor | None,
        x: Tensor,
        cache: KVCache | None,
        *,
        num_virtual: int,
    ) -> Shared:
        """Return cos, sin and mask for each kind of attention that layers have."""
        found: Shared = {}
        num_tokens, relative, start = x.shape[1], self.spec.relative, 0 if cache is None else cache.length
        for layer in self.spec.layers:
            kind = layer.attention
            if kind in found:
                continue
            cos, sin = (None, None) if kind.rotary is None else rotary_tables(positions, kind.rotary, x.dtype)
            num_keys = slots_behind(start, kind.window) + num_tokens
            bias = None
            if relative is not None and self.relative_bias is not None:
                table = self.relative_bias.weight
                bias = relative_bias(table, relative, num_tokens, num_keys, causal=kind.causal)
            near = None if seen is None else seen[:, -num_keys:]
            mask = attention_mask(kind, num_tokens, num_keys, near, x, order=order, bias=bias)
            if cache is not None and num_tokens == 1 and isinstance(mask, Tensor):
                mask = cache.in_order(mask, kind.window)
            if num_virtual:
                mask = with_prefix(mask, kind, positions, num_virtual, num_keys, x)
            found[kind] = (cos, sin, mask)
        return found

    def look_up(self, ids: Tensor) -> Tensor:
        """Return the embeddings of tokens, scaled where the spec says so: (..) -> (.., D)."""
        x: Tensor = self.token_embedding(ids)
        scale = self.spec.embedding_scale
        return x if scale is None else x * torch.tensor(scale, dtype=x.dtype)  # rounded as the weights are

    def _embed(self, x: Tensor, positions: Tensor, types: Tensor | None) -> Tensor:
        """Add to embeddings (B, T, D) what positions and types give, and bring them to the width of the blocks."""
        spec = self.spec
        if self.type_embedding is not None:
            x = x + (self.type_embedding.weight[0] if types is None else self.type_embedding(types))
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions + spec.position_offset)
        elif spec.positions != "none":
            x = x + sinusoidal(positions, x.shape[-1], x.dtype, halves=spec.positions == "sinusoidal_halves")
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        if self.widen is not None:
            x = self.widen(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # a narrow residual stream halves the memory traffic
        return x

    def _place(
        self, ids: Tensor, positions: Tensor | None, segments: Tensor | None, cache: KVCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Settle positions, (T,) or (B, T), and the segments of all slots, (B, S) or None where no mask is needed."""
        num_tokens, start, ahead = ids.shape[1], 0 if cache is None else cache.length, self.num_virtual_tokens
        if positions is None:
            self._check_room(start + num_tokens)
        elif ahead:
            self._check_room(int(positions.max()) + 1)  # nobody who counts positions need know what stands before them
        seen = segments if cache is None else cache.extend_segments(num_tokens, segments)
        if seen is None or (cache is not None and cache.uniform):
            if positions is None:
                positions = torch.arange(start, start + num_tokens, device=ids.device)
            seen = seen if start > 0 and num_tokens > 1 else None
        elif positions is None:
            positions = positions_in_segments(seen)[:, start:]
        return positions + ahead if ahead else positions, seen

    def _check_room(self, num_tokens: int) -> None:
        """Raise UsageError for a text that does not fit the context behind the virtual tokens."""
        if num_tokens > self.max_text_tokens:
            virtual, limit = self.num_virtual_tokens, self.spec.max_seq_len
            raise UsageError(
                f"{num_tokens} tokens{f' behind {virtual} virtual ones' if virtual else ''} in a context of {limit}",
                accepted=f"at most {self.max_text_tokens} tokens",
                fix="shorten the text, or use a model with a longer context",
            )
