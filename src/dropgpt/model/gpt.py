"""GPT-2 (Radford et al. 2019) with dropout at four sites; logits out.

pre-LayerNorm blocks, biases, learned positions. As trained here: exact GELU, and one parameter for
the token embedding and the head; see `Variant` for models from elsewhere. Parameters bear the names
that Hugging Face's GPT-2 gives them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropgpt.model.dropout import Dropout, attention, attention_dropping_keys
from dropgpt.params import Model
from dropgpt.randomness import torch_generator
from dropgpt.tokens.vocabulary import N_VOCAB


@dataclass(frozen=True)
class Variant:
    """In what GPT-2s from elsewhere may differ from those that are trained here."""

    n_inner: int | None = None  # width inside the MLP; None: 4 n_embd
    gelu: Literal["none", "tanh"] = "none"  # how GELU is approximated; OpenAI's models: tanh
    layer_norm_epsilon: float = 1e-5
    tied_head: bool = True  # the head is the token embedding


OURS = Variant()
EMBEDDINGS = "wte.weight", "wpe.weight"


class Cache:
    """Keys and values of the tokens that generation has already read, one pair a block.

    Of several texts at once `padding` (batch,) says how many columns on the left of each are none
    of its tokens, so that all end in the same one. There is room for `columns`, or n_ctx.
    """

    def __init__(
        self, model: "GPT", padding: Tensor | None = None, columns: int | None = None
    ) -> None:
        c = model.config
        self.padding = padding
        batch_size = 1 if padding is None else len(padding)
        size = (c.n_layer, batch_size, c.n_head, columns or c.n_ctx, c.n_embd // c.n_head)
        self.keys = torch.zeros(size, device=model.device)
        self.values = torch.zeros(size, device=model.device)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new tokens' k and v, (batch, heads, time, width), behind the old; return all."""
        end = self.length + k.size(2)
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def mask(self, new: int) -> Tensor | None:
        """Which columns each of `new` tokens may see, (batch, 1, new, columns), if any is padded.

        A column of padding sees itself: it must see something.
        """
        if self.padding is None:
            return None
        columns = torch.arange(self.length + new, device=self.padding.device)
        own = columns[self.length :, None]
        theirs = columns >= self.padding[:, None, None, None]
        return (theirs & (columns <= own)) | (columns == own)


class Attention(nn.Module):
    """Causal self-attention: x (batch, time, n_embd) -> what it adds to x, of the same shape.

    Two sites of dropout: the weights after the softmax (or the keys before it), and the output.
    """

    def __init__(self, config: Model, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.drops_keys = config.attention_dropout == "keys"
        self.attention_dropout = Dropout(site_rate(config, "attention"))
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = Dropout(site_rate(config, "attention_output"))

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        heads = self.c_attn(x).unflatten(-1, (3, self.n_head, -1))  # (batch, time, 3, head, width)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        rate = self.attention_dropout.rate if self.training else 0.0
        mask = None if cache is None else cache.mask(q.size(2))
        if mask is not None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        elif rate and self.drops_keys:
            y = attention_dropping_keys(q, k, v, rate)
        else:
            # One new token may see all that the cache holds.
            y = attention(q, k, v, rate, is_causal=q.size(2) > 1)
        return self.dropout(self.c_proj(y.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """n_embd -> n_inner, GELU, -> n_embd, for each position alone: the shape stays.

    One site of dropout: the output.
    """

    def __init__(self, config: Model, variant: Variant) -> None:
        super().__init__()
        n_inner = variant.n_inner or 4 * config.n_embd
        self.gelu = variant.gelu
        self.c_fc = nn.Linear(config.n_embd, n_inner)
        self.c_proj = nn.Linear(n_inner, config.n_embd)
        self.dropout = Dropout(site_rate(config, "mlp"))

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(F.gelu(self.c_fc(x), approximate=self.gelu)))


class Block(nn.Module):
    """x + attention(LayerNorm(x)), then the same with the MLP; x and result (batch, time, n_embd).

    With `block_dropout` a window skips the block with that probability (Huang et al. 2016).
    """

    def __init__(self, config: Model, variant: Variant, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, variant.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, variant.layer_norm_epsilon)
        self.mlp = MLP(config, variant)
        self.dropout = Dropout(config.block_dropout)

    def forward(self, x: Tensor, cache: Cache | None) -> Tensor:
        y = x + self.attn(self.ln_1(x), cache)
        y = y + self.mlp(self.ln_2(y))
        if not (self.training and self.dropout.rate):
            return y
        # One element a window: what the whole block adds to it stays or goes.
        return x + (y - x) * self.dropout(x.new_ones(len(x), 1, 1))


class _NothingDrawn(TorchFunctionMode):
    """Leaves out what torch.nn.init would draw, as it lets one (torch.overrides)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


Blocks = list[Callable[[Tensor, Cache | None], Tensor]]


class GPT(nn.Module):
    """tokens (batch, time) int64 -> logits of each next token (batch, time, n_vocab).

    The first site of dropout is here: the sum of token and position embedding. The names of the
    parts are those of Hugging Face's GPT-2: wte, wpe, h, ln_f, lm_head.
    """

    def __init__(self, config: Model, n_vocab: int = N_VOCAB, variant: Variant = OURS) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(n_vocab, config.n_embd)
        self.wpe = nn.Embedding(config.n_ctx, config.n_embd)
        self.dropout = Dropout(site_rate(config, "embedding"))
        self.h = nn.ModuleList(Block(config, variant, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, variant.layer_norm_epsilon)
        # Last, and only where it is not the token embedding: optimizers know parameters by number.
        self.lm_head = None if variant.tied_head else nn.Linear(config.n_embd, n_vocab, bias=False)
        self.logit_scale = 1 / math.sqrt(config.n_embd) if config.scale_logits else 1.0

    @classmethod
    def empty(cls, config: Model, n_vocab: int = N_VOCAB, variant: Variant = OURS) -> "GPT":
        """One whose matrices and embeddings are still to be set: torch's own take long to draw."""
        with _NothingDrawn():
            return cls(config, n_vocab, variant)

    @property
    def head(self) -> Tensor:
        """What features are multiplied by to give logits, (n_vocab, n_embd)."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        return self.wte.weight.device

    @property
    def n_vocab(self) -> int:
        return self.wte.num_embeddings

    def flop_of_token(self, measured: float = 1) -> float:
        """Of a token's forward and backward pass (Chowdhery et al. 2022, appendix B).

        `measured` is the share of the tokens whose loss is computed: the head is for those alone.
        """
        c = self.config
        multiplied: float = sum(p.numel() for p in self.h.parameters() if p.ndim == 2)
        multiplied += measured * self.head.numel()
        return 6 * multiplied + 12 * c.n_layer * c.n_embd * c.n_ctx

    @property
    def end_of_text(self) -> int:
        """The token <|endoftext|>, the last of the vocabulary."""
        return self.n_vocab - 1

    def features(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """What the head multiplies, (batch, time, n_embd), for `tokens` (batch, time) int64.

        Apart from `forward` because a loss need not hold all logits at once. With a cache, which
        must be empty or followed by a single token, positions go on from its length.
        """
        x = self.embedded(tokens, cache)
        features = self.transformed(x, cache)
        if cache is not None:
            cache.length += tokens.size(1)
        return features

    def embedded(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """The sum of both embeddings, (batch, time, n_embd), of tokens behind those of a cache."""
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device)
        if cache is not None and cache.padding is not None:
            positions = (positions - cache.padding[:, None]).clamp(min=0)
        return self.wte(tokens) + self.wpe(positions)

    def transformed(
        self, x: Tensor, cache: Cache | None = None, blocks: Blocks | None = None
    ) -> Tensor:
        """All between the embeddings and the head; x and result (batch, time, n_embd).

        `blocks` are the model's own or the same compiled.
        """
        x = self.dropout(x)
        for block in self.h if blocks is None else blocks:
            x = block(x, cache)
        return self.ln_f(x) * self.logit_scale

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token, (batch, time, n_vocab)."""
        return F.linear(self.features(tokens), self.head)


def scale_dropout(model: GPT, factor: float) -> None:
    """From now on drop with `factor`, 0 to 1, times the probabilities of the model's config."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.rate = factor * module.full_rate


def site_rate(config: Model, site: str) -> float:
    """The probability of dropping at one of the four sites."""
    rate = getattr(config.dropout_sites, site)
    return float(config.dropout if rate is None else rate)


def initialised(config: Model, seed: int, n_vocab: int = N_VOCAB) -> GPT:
    """A GPT with the weights of (seed): linear N(0, 0.02), embeddings Xavier normal, biases 0.

    Xavier's token embedding is tiny beside the positions' (0.006 and 0.07 at a width of 128), so
    that a model hardly sees its tokens at first. `config.token_embedding_std` sets another, and
    the positions to N(0, 0.02).
    """
    model = GPT.empty(config, n_vocab)
    random = torch_generator(seed, "initial weights")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=random)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.xavier_normal_(module.weight, generator=random)
    if config.token_embedding_std is not None:
        nn.init.normal_(model.wte.weight, std=config.token_embedding_std, generator=random)
        nn.init.normal_(model.wpe.weight, std=0.02, generator=random)
    return model
