"""A small Llama-architecture decoder in plain PyTorch: RMSNorm, rotary positions, grouped queries, SwiGLU.

It follows the arrangement that CTranslate2 expects of a Llama model, with interleaved rotary pairs
(RoFormer, https://arxiv.org/abs/2104.09864) and tied embeddings, so that ``convert`` only copies weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model; the defaults give 5.3 million parameters with 4,096 tokens of vocabulary."""

    width: int = 256
    layers: int = 6
    heads: int = 8
    key_value_heads: int = 4
    feed_forward: int = 688
    vocabulary: int = 4_096
    context: int = 1_024
    norm_epsilon: float = 1e-5
    rotary_base: float = 10_000.0

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each neighbouring pair of ``x`` by its position's angle."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    """One layer: attention and a gated feed-forward net, each behind a norm and around a residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.key_value_heads * shape.head_width
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.feed_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, inner, bias=False)
        self.value = nn.Linear(shape.width, inner, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the layer's output for ``x`` of shape (batch, positions, width)."""
        shape, (batch, length, _) = self.shape, x.shape
        normed = self.attention_norm(x)

        def heads(projection: nn.Linear, count: int) -> Tensor:
            return projection(normed).view(batch, length, count, shape.head_width).transpose(1, 2)

        repeat = shape.heads // shape.key_value_heads
        query = _rotate(heads(self.query, shape.heads), cos, sin)
        key = _rotate(heads(self.key, shape.key_value_heads), cos, sin).repeat_interleave(repeat, 1)
        value = heads(self.value, shape.key_value_heads).repeat_interleave(repeat, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, shape.width))
        normed = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class Llama(nn.Module):
    """The whole decoder; ``forward`` gives logits over the vocabulary for every position."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for block in self.blocks:  # GPT-2's scaling keeps the residual stream's size independent of depth
            for projection in (block.out, block.down):
                nn.init.normal_(projection.weight, std=0.02 / (2 * shape.layers) ** 0.5)
        frequency = shape.rotary_base ** (-torch.arange(0, shape.head_width, 2) / shape.head_width)
        angle = torch.outer(torch.arange(shape.context), frequency)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of shape (batch, positions, vocabulary)."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]])
        return self.norm(x) @ self.embedding.weight.T
