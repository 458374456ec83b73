"""nanoGPT's ckpt.pt -> the GPT that computes the same."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from torch import Tensor

from dropgpt.errors import UserError, check_here, explain
from dropgpt.machine.files import sha256
from dropgpt.machine.memory import out_of_memory
from dropgpt.model.gpt import GPT, OURS
from dropgpt.model.hugging_face import CAUSAL_MASK, in_float32, without_values
from dropgpt.params import DropoutSites, Model, Rate, Size, dotted
from dropgpt.tokens.vocabulary import N_VOCAB

PADDED = 50304  # to which nanoGPT rounds GPT-2's vocabulary up
# Of its config, what alters no weight: with it, no two trainings would be alike in all else.
WITHOUT_EFFECT = {"out_dir", "log_interval", "wandb_log", "wandb_project", "wandb_run_name"}
WITHIN = [("init_from", "scratch"), ("init_from", "resume")]  # whether it was stopped in between
# A key that belongs to another model.
UNKNOWN = "nanoGPT's own GPT has none, so what this one computes is not known"
# Of DistributedDataParallel, of torch.compile, and of all but the head.
PREFIXES = ("module.", "_orig_mod.", "transformer.")


class Arguments(BaseModel):
    """What the checkpoint says of its model."""

    model_config = ConfigDict(strict=True, extra="forbid")

    n_layer: PositiveInt
    n_head: PositiveInt
    n_embd: Size
    block_size: Size
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
    if path.suffix == ".safetensors":  # torch would read it, too
        raise UserError(f"{path}: name the folder that it lies in, with config.json")
    try:
        # weights_only: what else is in the file is not run.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # by what the bytes happen to be
        if out_of_memory(error):
            raise
        # torch's own words advise to open it unsafely.
        unsafe = re.search(r"GLOBAL (\S+)", str(error))
        why = (
            f"it holds more than tensors and plain values, a {unsafe[1]}: save it anew without"
            if unsafe
            else "it is damaged, or another kind of file"
        )
        raise UserError(f"{path}: not a ckpt.pt that nanoGPT wrote: {why}") from None
    if not isinstance(found, dict) or not {"model", "model_args"} & {*found}:
        raise UserError(
            f"{path}: not a ckpt.pt that nanoGPT wrote: it has neither model nor model_args; of a "
            "model that transformers opens name the folder, with config.json"
        )
    try:
        checkpoint = Checkpoint.model_validate(found)
        arguments = checkpoint.model_args
        kind = arguments.model()
    except ValidationError as error:
        raise UserError(
            "; ".join(explain(path, e, unknown=UNKNOWN) for e in error.errors())
        ) from None
    if arguments.vocab_size not in (N_VOCAB, PADDED):
        raise UserError(
            f"{path}: vocab_size is {arguments.vocab_size}, so its tokens are not GPT-2's; which "
            "they are (meta.pkl of its data) is not known: only GPT-2's can be measured"
        )
    model = _filled(path, kind, arguments, checkpoint.model)
    of_model = arguments.model_dump()
    config = {  # less what it says of the model again: two runs would differ in two things there
        key: v
        for key, v in checkpoint.config.items()
        if key not in WITHOUT_EFFECT and (key, v) not in [*WITHIN, *of_model.items()]
    }
    known = dotted({"model_args": of_model, "config": config})
    known["iter_num"] = checkpoint.iter_num
    scalars = {
        key: str(v) if isinstance(v, float) and not math.isfinite(v) else v
        for key, v in known.items()
        if v is None or isinstance(v, str | int | float)
    }
    return model.eval(), {"model": str(path), "weights": sha256(path)[:8]} | scalars


def _filled(path: Path, kind: Model, arguments: Arguments, weights: dict[str, Tensor]) -> GPT:
    """A model of that kind with the weights; a bias that there is not is zero."""
    named: dict[str, Tensor] = {}
    for name, weight in weights.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if CAUSAL_MASK.fullmatch(name):
            continue
        if name in named:
            raise UserError(f"{path}: there are two tensors for {name}: remove one")
        named[name] = in_float32(path, name, weight)
    head = named.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, named.get("wte.weight", torch.empty(0))):
        raise UserError(
            f"{path}: lm_head.weight is not wte.weight, as it is in nanoGPT: a model with a head "
            "of its own cannot be measured from a ckpt.pt; transformers' `save_pretrained` has it"
        )
    expected = without_values(kind, arguments.vocab_size, OURS, len(named))
    wanted = {
        name: list(weight.shape)
        for name, weight in expected.items()
        if arguments.bias or not name.endswith(".bias")
    }
    shapes = {name: list(weight.shape) for name, weight in named.items()}
    for name in sorted({*wanted, *shapes}):
        if shapes.get(name) != wanted.get(name):
            raise UserError(
                f"{path}: the tensor {name} is {shapes.get(name, 'not there')}, by model_args it "
                f"should be {wanted.get(name, 'not there')}"
            )
    model = GPT.empty(kind, arguments.vocab_size)
    zeros = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    model.load_state_dict(zeros | named)
    return model
