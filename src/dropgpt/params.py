"""params.yaml as typed, checked values."""

import posixpath
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dropgpt.errors import UserError, explain, keys

Rate = Annotated[float, Field(ge=0, lt=1)]
Size = Annotated[int, Field(gt=0, le=1 << 24)]  # torch counts no more numbers than 2^63
Layers = Annotated[int, Field(gt=0, le=4096)]  # more take minutes only to be built
Factor = Annotated[float, Field(gt=0, le=1e15)]  # so that the product of two is a float32
Text = Annotated[str, StringConstraints(min_length=1)]
# What the parser raises: of bytes that are no text, and of 2024-13-45 or 5,000 digits, ValueError.
NOT_YAML = (YAMLError, ValueError, RecursionError)


# What of section data names texts, as it is where it names none. Under a source that does not read
# it, the texts of that source would stand under this name.
NAMELESS: dict[str, str | None] = {"split": "train", "files": "corpora/*.txt"}
NAMELESS |= dict.fromkeys(["dataset", "config", "revision", "held_out_split"])
# The keys of section data that each source reads.
READ = {
    "wikipedia": set[str](),
    "fineweb": {"documents", "config", "revision"},
    "hub": {"documents", "text_column", *NAMELESS} - {"files"},
    "files": {"files", "text_column", "separator", "deduplicate"},
}


class Section(BaseModel):
    """A mapping of params.yaml: nothing unknown, nothing missing, no value bent to fit its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _lists_hold_nothing_twice(self) -> Self:
        for key, values in self:
            if isinstance(values, list) and (twice := [v for v in values if values.count(v) > 1]):
                raise ValueError(f"{key} has {twice[0]!r} twice; take one out")
        return self


class Data(Section):
    source: Literal["wikipedia", "fineweb", "hub", "files"]
    documents: PositiveInt | None
    dataset: Text | None
    config: Text | None
    revision: Text | None
    split: Text
    held_out_split: Text | None
    files: Text
    text_column: Text
    separator: Text | None
    deduplicate: bool

    @property
    def in_shards(self) -> bool:
        """Whether it is all of a data set on the hub, which may be too large for one file."""
        return self.source in ("fineweb", "hub") and self.documents is None

    @model_validator(mode="after")
    def _the_source_reads_what_is_named(self) -> Self:
        named = {key for key, nameless in NAMELESS.items() if getattr(self, key) != nameless}
        if unread := sorted(named - READ[self.source]):
            back = " ".join(f"-S 'data.{key}={NAMELESS[key] or 'null'}'" for key in unread)
            raise ValueError(
                f"source is {self.source}, which does not read {', '.join(unread)}: set source to "
                f"one that does, or set back what it does not read, `{back}`"
            )
        if self.source == "hub" and not self.dataset:
            raise ValueError("source is hub, so dataset must name one: roneneldan/TinyStories, say")
        if self.held_out_split == self.split:
            raise ValueError(f"held_out_split and split are both {self.split!r}")
        return self


class Tokenize(Section):
    vocabulary_size: Annotated[int, Field(ge=257, le=50257)]
    end_of_text: bool
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]


class DropoutSites(Section):
    embedding: Rate | None
    attention: Rate | None
    attention_output: Rate | None
    mlp: Rate | None


class Model(Section):
    n_layer: Layers
    n_head: Size
    n_embd: Size
    n_ctx: Size
    dropout: Rate
    dropout_sites: DropoutSites
    attention_dropout: Literal["weights", "keys"]
    block_dropout: Rate
    scale_logits: bool
    token_embedding_std: PositiveFloat | None

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        return self


class Train(Section):
    seed: NonNegativeInt
    tokens: PositiveInt | None
    steps: PositiveInt
    batch_size: Size
    micro_batch_size: Size | None
    dropout_schedule: Literal[
        "constant", "early", "late", "linear_up", "linear_up_from_half", "linear_down"
    ]
    dropout_switch_step: NonNegativeInt
    sampling: Literal["epoch", "fixed", "random"]
    token_replacement: Rate
    loss: Literal["all_tokens", "final_token"]
    optimizer: Literal["muon", "adamw"]
    learning_rate: Factor
    matrix_rate_factor: Factor
    token_embedding_rate_factor: Factor
    warmup_steps: Annotated[int, Field(ge=0, le=1 << 53)]  # else no float
    lr_schedule: Literal["constant", "linear", "cosine", "wsd"]
    final_learning_rate: NonNegativeFloat
    beta1: Rate
    beta2: Rate
    weight_decay: NonNegativeFloat
    weight_decay_biases_and_norms: NonNegativeFloat
    max_gradient_norm: PositiveFloat | None
    validation_interval: PositiveInt
    validation_windows: PositiveInt
    precision: Literal["auto", "float32", "bfloat16"]
    compile: Literal["auto", True, False]

    @model_validator(mode="after")
    def _dropout_switches(self) -> Self:
        switches = self.dropout_schedule in ("early", "late")
        if switches and not 0 < self.dropout_switch_step < self.steps:
            raise ValueError(
                f"dropout_schedule is {self.dropout_schedule}, so dropout_switch_step must lie "
                f"between 1 and {self.steps - 1}, the steps less one: it is "
                f"{self.dropout_switch_step}, with which dropout would never switch"
            )
        return self

    @model_validator(mode="after")
    def _compiles_once(self) -> Self:
        if self.compile is True and self.dropout_schedule.startswith("linear"):
            raise ValueError(
                f"dropout_schedule {self.dropout_schedule} gives each step rates of its own, for "
                "which it would be compiled anew: set compile to auto or false"
            )
        return self

    @model_validator(mode="after")
    def _learning_rate_falls(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate {self.final_learning_rate} is above "
                f"learning_rate {self.learning_rate}"
            )
        return self


class Evaluate(Section):
    model: Text | None
    seed: NonNegativeInt
    stride: PositiveInt
    across_documents: bool
    batch_size: PositiveInt
    dropout_passes: PositiveInt
    extra_corpora: list[Text]

    @model_validator(mode="after")
    def _each_corpus_is_measured_once(self) -> Self:
        names: dict[str, str] = {}
        for name in self.extra_corpora:
            if (first := names.setdefault(posixpath.normpath(name), name)) != name:
                raise ValueError(f"extra_corpora has {first!r} again as {name!r}; take one out")
        return self

    def check_windows(self, model: Model) -> None:
        """Raise ValueError where tokens between two windows would not be measured."""
        if self.stride > model.n_ctx:
            raise ValueError(
                f"evaluate.stride {self.stride} is above model.n_ctx {model.n_ctx}: tokens between "
                "two windows would not be measured"
            )


class Sample(Section):
    model: Text | None
    seed: NonNegativeInt
    prompts: Annotated[list[Text], Field(min_length=1)]
    temperatures: Annotated[list[NonNegativeFloat], Field(min_length=1)]
    tokens: PositiveInt
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None


class Runtime(Section):
    device: str
    threads: Annotated[int, Field(gt=0, le=4096)] | None
    processes: PositiveInt
    shard_weights: bool
    log_interval: PositiveFloat
    checkpoint_interval: NonNegativeFloat
    tracker: Literal["tensorboard", "mlflow", "wandb"] | None

    @field_validator("device", mode="before")
    @classmethod
    def _device_is_known(cls, device: Any) -> Any:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", str(device)):
            raise ValueError("input should be auto, cpu, mps, cuda, or cuda:1 for the second GPU")
        return device

    @property
    def threads_of_model(self) -> int | None:
        """How many threads a model may work in: FSDP2 watches one in a single thread."""
        return 1 if self.shard_weights else self.threads


class Params(Section):
    data: Data
    tokenize: Tokenize
    model: Model
    train: Train
    evaluate: Evaluate
    sample: Sample
    runtime: Runtime

    @model_validator(mode="after")
    def _windows_overlap_or_touch(self) -> Self:
        # A model from elsewhere has a context of its own, which the stage compares with.
        if self.evaluate.model is None:
            self.evaluate.check_windows(self.model)
        return self


def load(path: Path) -> Params:
    """Read and check the whole of `path` (YAML 1.2, with the parser that DVC uses).

    Raises UserError, naming the file, the key, the value and what is allowed.
    """
    try:
        # PyYAML speaks YAML 1.1, in which 3e-4 and 5e-05 are strings; DVC and we speak 1.2.
        values = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's root") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from None
    except NOT_YAML as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        known = [*keys(Params)]
        raise UserError("; ".join(explain(path, e, known) for e in error.errors())) from None


def dotted(values: dict[str, Any]) -> dict[str, Any]:
    """{"model": {"dropout": 0.1}} -> {"model.dropout": 0.1}, as `dvc exp run -S` takes keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        below = dotted(value) if isinstance(value, dict) and value else {"": value}
        found |= {f"{key}.{rest}" if rest else str(key): one for rest, one in below.items()}
    return found
