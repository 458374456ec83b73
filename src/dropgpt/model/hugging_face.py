"""Any GPT-2 that `save_pretrained` of transformers wrote -> the GPT that computes the same.

What is not understood is refused by name, so that no number is a slightly other model's.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dropgpt.errors import UserError, check_here, explain, of_machine
from dropgpt.machine.memory import enough_memory
from dropgpt.model.gpt import GPT, Variant
from dropgpt.model.tokenizer_files import check_tokenizer, json_object
from dropgpt.params import DropoutSites, Model, Rate, Size
from dropgpt.tokens.vocabulary import N_BYTES, N_VOCAB

# Hugging Face's GPT-2 keeps these as Conv1D, the transpose of nn.Linear.
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")

# The names that transformers has for the same two functions.
Exact = Literal["gelu", "gelu_python"]
Tanh = Literal["gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"]

CAUSAL_MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # old folders have it among the weights
FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


# The names that transformers also takes for four of GPT-2's sizes.
ALIASES = {
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
}


class Config(BaseModel):
    """What of a config.json bears on the numbers: what is understood, and GPT-2's defaults."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_transformers_reads_it(cls, values: dict[str, Any]) -> dict[str, Any]:
        for alias, name in ALIASES.items():
            if alias in values and values.setdefault(name, values[alias]) != values[alias]:
                raise ValueError(
                    f"{name} is {values[name]} and {alias}, the same thing, {values[alias]}: take "
                    "one out"
                )
        if own := [key for key in values.get("auto_map") or {} if key.startswith("AutoModel")]:
            raise ValueError(f"auto_map names code of the model's own for {own[0]}: it is not run")
        return values

    model_type: Literal["gpt2"]
    vocab_size: Annotated[int, Field(gt=N_BYTES, le=N_VOCAB)] = N_VOCAB
    n_layer: PositiveInt = 12
    n_head: PositiveInt = 12
    n_embd: Size = 768
    n_positions: Size = 1024
    n_inner: Size | None = None
    activation_function: Literal[Exact, Tanh] = "gelu_new"
    layer_norm_epsilon: PositiveFloat = 1e-5
    tie_word_embeddings: bool = True
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    add_cross_attention: Literal[False] = False
    quantization_config: None = None
    embd_pdrop: Rate = 0.1
    attn_pdrop: Rate = 0.1
    resid_pdrop: Rate = 0.1
    # What `artifact.save` adds, since theirs cannot say it.
    dropout_sites: DropoutSites | None = None
    attention_dropout: Literal["weights", "keys"] = "weights"
    block_dropout: Rate = 0.0

    def model(self) -> Model:
        """The same as the section `model` has it; raises ValidationError where it cannot be."""
        sites = self.dropout_sites or DropoutSites(
            embedding=self.embd_pdrop,
            attention=self.attn_pdrop,
            attention_output=self.resid_pdrop,
            mlp=self.resid_pdrop,
        )
        return Model(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            n_ctx=self.n_positions,
            dropout=0.0,
            dropout_sites=sites,
            attention_dropout=self.attention_dropout,
            block_dropout=self.block_dropout,
            scale_logits=False,
            token_embedding_std=None,
        )

    def variant(self) -> Variant:
        return Variant(
            n_inner=self.n_inner,
            gelu="none" if self.activation_function in get_args(Exact) else "tanh",
            layer_norm_epsilon=self.layer_norm_epsilon,
            tied_head=self.tie_word_embeddings,
        )


class Index(BaseModel):
    """What of a model.safetensors.index.json says where the tensors are."""

    weight_map: dict[str, str]


def read(folder: Path) -> GPT:
    """The model, float32, in eval mode on the CPU.

    Raises UserError, naming the file and what in it is not understood, and where there is too
    little memory.
    """
    path = folder / "config.json"
    try:
        config = Config.model_validate(json_object(path))
        kind = config.model(), config.vocab_size, config.variant()
    except ValidationError as error:
        raise UserError("; ".join(_explain(path, e) for e in error.errors())) from None
    check_tokenizer(folder, config.vocab_size)
    with enough_memory(f"{folder}", "its weights in float32 take more than there is"):
        weights = _weights(folder, config)
        _check_shapes(folder, weights, without_values(*kind, len(weights)))
        model = GPT.empty(*kind)
        model.load_state_dict(weights)
    return model.eval()


def without_values(
    config: Model, n_vocab: int, variant: Variant, n_tensors: int
) -> dict[str, Tensor]:
    """The tensors that such a model has, by name, so that no size takes memory.

    Where `n_tensors` are fewer than the layers, of so many layers only: some tensors lack then.
    """
    layers = {"n_layer": min(config.n_layer, n_tensors)}
    with torch.device("meta"):
        return GPT.empty(config.model_copy(update=layers), n_vocab, variant).state_dict()


def _weights(folder: Path, config: Config) -> dict[str, Tensor]:
    """As `_tensors`, less a head that is the token embedding."""
    weights = _tensors(folder)
    head = weights.get("lm_head.weight")
    if config.tie_word_embeddings and head is not None:
        if not torch.equal(head, weights.get("wte.weight", torch.empty(0))):
            raise UserError(
                f"{folder}: lm_head.weight is not wte.weight, though config.json has "
                "tie_word_embeddings true; set it to false where that is meant"
            )
        del weights["lm_head.weight"]
    return weights


def _explain(path: Path, error: Any) -> str:
    line = explain(path, error)
    if error["loc"] == ("vocab_size",):
        line += f"; `model.resize_token_embeddings({N_VOCAB})` in transformers takes padding off"
    return line


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Name, as ours, -> float32 weight, transposed where theirs is."""
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            check_here(file)
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            if of_machine(error):
                raise
            raise UserError(f"{file}: not to be read: {error}; copy the folder again") from None
        for name, weight in found.items():
            short = name.removeprefix("transformer.")
            if CAUSAL_MASK.fullmatch(short):
                continue
            if short in weights:
                raise UserError(f"{file}: there are two tensors for {short}: remove one")
            weight = in_float32(file, name, weight)
            weights[short] = weight.T if short.endswith(TRANSPOSED) else weight
    return weights


def in_float32(file: Path, name: str, weight: Tensor) -> Tensor:
    """The same numbers. Raises UserError where they are no floats, not finite, or not all there."""
    dense = weight.layout == torch.strided and not weight.is_meta
    if not dense or weight.dtype not in FLOATS:
        kind = weight.dtype if dense else f"{weight.layout}, on {weight.device}"
        raise UserError(f"{file}: {name} is {kind}: only dense floats are understood")
    weight = weight.float()
    if not weight.isfinite().all():
        raise UserError(
            f"{file}: {name} holds what is no finite number in float32: its training ran away, or "
            "the file is damaged; take another model"
        )
    return weight


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder`: one, or those that an index names.

    Raises UserError, saying what to do, where there is none.
    """
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = Index.model_validate(json_object(index)).weight_map.values()
        except ValidationError as error:
            raise UserError("; ".join(explain(index, e) for e in error.errors())) from None
        # By their last part: an index leads nowhere but to files beside it, which DVC watches.
        return sorted({folder / Path(name).name for name in names})
    if list(folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"{folder}: only pytorch_model.bin, which may run code when it is opened, and no "
            "model.safetensors; in transformers, "
            f"`GPT2LMHeadModel.from_pretrained('{folder}').save_pretrained('{folder}')` writes it"
        )
    raise UserError(
        f"{folder}: no model.safetensors; copy there what `save_pretrained` of transformers wrote"
    )


def _check_shapes(folder: Path, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise UserError, naming the tensor, unless `weights` have the names and shapes of others."""
    for name in [*expected, *weights]:
        if name not in weights:
            raise UserError(f"{folder}: no tensor {name}; copy the whole of the model there")
        if name not in expected:
            raise UserError(
                f"{folder}: the tensor {name} is no part of a GPT-2 as config.json has it"
            )
        if weights[name].shape != expected[name].shape:
            raise UserError(
                f"{folder}: the tensor {name} is {_shape(name, weights)}, but "
                f"{_shape(name, expected)} by config.json"
            )


def _shape(name: str, tensors: dict[str, Tensor]) -> str:
    """As it is in the file."""
    sizes = list(tensors[name].shape)
    return str(sizes[::-1] if name.endswith(TRANSPOSED) else sizes)
