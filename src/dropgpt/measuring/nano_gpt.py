"""nanoGPT's ckpt.pt -> the GPT that computes the same."""

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import Tensor

from dropgpt.errors import UserError, check_here
from dropgpt.machine.files import sha256
from dropgpt.model.gpt import GPT
from dropgpt.model.hugging_face import CAUSAL_MASK
from dropgpt.params import DropoutSites, Model, Rate, dotted, explain
from dropgpt.tokens.vocabulary import N_VOCAB

PADDED = 50304  # to which nanoGPT rounds GPT-2's vocabulary up
# Of its config, what alters no weight: with it, no two trainings would be alike in all else.
WITHOUT_EFFECT = {"out_dir", "log_interval", "wandb_log", "wandb_project", "wandb_run_name"}
PREFIXES = ("_orig_mod.", "transformer.")  # of torch.compile, and of all but the head


class Arguments(BaseModel):
    """What the checkpoint says of its model."""

    model_config = ConfigDict(strict=True, extra="forbid")

    n_layer: PositiveInt
    n_head: PositiveInt
    n_embd: PositiveInt
    block_size: PositiveInt
    bias: bool
    vocab_size: PositiveInt
    dropout: Rate = 0.0

    def model(self) -> Model:
        """The same as the section `model` has it; raises ValidationError where it cannot be."""
        return Model(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_ctx=self.block_size,
            dropout=self.dropout,
            dropout_sites=DropoutSites(**dict.fromkeys(DropoutSites.model_fields)),
            attention_dropout="weights",
            block_dropout=0.0,
            scale_logits=False,
            token_embedding_std=None,
        )


class Checkpoint(BaseModel):
    """What of it bears on the numbers, and what made it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: dict[str, Tensor]
    model_args: Arguments
    iter_num: int | None = None
    config: dict[str, Any] = {}


def read(path: Path) -> tuple[GPT, dict[str, Any]]:
    """The model, float32, in eval mode on the CPU; and what the file says of its making.

    Its vocabulary is GPT-2's, perhaps padded: then the last tokens never occur, but have a part
    in each probability, as in nanoGPT. Raises UserError where it is no such file.
    """
    check_here(path)
    try:
        # weights_only: what else is in the file is not run.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # by what the bytes happen to be
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{path}: not a ckpt.pt that nanoGPT wrote: {why[0]}") from None
    try:
        checkpoint = Checkpoint.model_validate(found)
        arguments = checkpoint.model_args
        model = GPT.empty(arguments.model(), arguments.vocab_size)
    except ValidationError as error:
        raise UserError("; ".join(explain(path, e) for e in error.errors())) from None
    if arguments.vocab_size not in (N_VOCAB, PADDED):
        raise UserError(
            f"{path}: vocab_size is {arguments.vocab_size}, so its tokens are not GPT-2's; which "
            "they are (meta.pkl of its data) is not known: only GPT-2's can be measured"
        )
    _load(path, model, checkpoint.model, arguments.bias)
    config = {key: v for key, v in checkpoint.config.items() if key not in WITHOUT_EFFECT}
    known = dotted({"model_args": arguments.model_dump(), "config": config})
    known["iter_num"] = checkpoint.iter_num
    scalars = {
        key: str(v) if isinstance(v, float) and not math.isfinite(v) else v
        for key, v in known.items()
        if v is None or isinstance(v, str | int | float)
    }
    return model.eval(), {"model": str(path), "weights": sha256(path)[:8]} | scalars


def _load(path: Path, model: GPT, weights: dict[str, Tensor], bias: bool) -> None:
    """Set the model's weights; a bias that there is not is zero."""
    named = {}
    for name, weight in weights.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if not CAUSAL_MASK.fullmatch(name):
            named[name] = weight.float()
    named.pop("lm_head.weight", None)  # which is wte.weight
    expected = model.state_dict()
    if not bias:
        named |= {n: torch.zeros_like(w) for n, w in expected.items() if n.endswith(".bias")}
    shapes = {name: list(weight.shape) for name, weight in named.items()}
    for name in sorted({*expected, *named}):
        wanted = list(expected[name].shape) if name in expected else None
        if shapes.get(name) != wanted:
            raise UserError(
                f"{path}: the tensor {name} is {shapes.get(name, 'not there')}, by model_args it "
                f"should be {wanted or 'not there'}"
            )
    model.load_state_dict(named)
