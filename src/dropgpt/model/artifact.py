"""The trained model as a standard Hugging Face GPT-2 folder; and which model a stage reads.

`GPT2LMHeadModel.from_pretrained` and `AutoTokenizer.from_pretrained` open it; so does `load`.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialised

from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS, check_seal, replacing, seal, write_json
from dropgpt.machine.provenance import Chain
from dropgpt.model import hugging_face
from dropgpt.model.gpt import GPT, site_rate
from dropgpt.model.hugging_face import TRANSPOSED
from dropgpt.params import DropoutSites
from dropgpt.tokens.vocabulary import END_OF_TEXT, entries, merges

TRAINED = Path("models/gpt")  # from the project's root
PRETRAINED = Path("pretrained")  # of this folder, DVC watches all
HUB_PAGE = "docs/other-models.md"
WEIGHTS = "model.safetensors"
FILES = (  # what `save` writes, and SHA256SUMS
    "config.json",
    "generation_config.json",
    "merges.txt",
    WEIGHTS,
    provenance.FILE,
    "tokenizer_config.json",
    "vocab.json",
)


def save(model: GPT, folder: Path, made_from: Chain | None = None) -> None:
    """Write the weights (safetensors, float32), the configs, the tokenizer files and `made_from`.

    `model` is one that was made here: its variant is `OURS`.
    """
    weights = {}
    for name, weight in model.state_dict().items():
        weight = weight.detach().cpu()
        if name.startswith("ln_f."):
            weight = weight * model.logit_scale  # the last LayerNorm takes in the factor
        if name.endswith(TRANSPOSED):
            weight = weight.T
        weights[f"transformer.{name}"] = weight.contiguous()
    with replacing(folder) as partial:
        partial.mkdir()
        # Not save_file, which hides from us that a disk is full.
        content = serialised(weights, metadata={"format": "pt"})
        (partial / WEIGHTS).write_bytes(content)
        write_json(partial / "config.json", _config(model))
        # Without it, transformers would write 256 tokens, whatever the context.
        write_json(
            partial / "generation_config.json",
            {**_ends(model), "do_sample": True, "max_length": model.config.n_ctx},
        )
        write_json(partial / "tokenizer_config.json", _tokenizer_config(model.config.n_ctx))
        (partial / "vocab.json").write_text(json.dumps(entries(model.n_vocab)))
        lines = ["#version: 0.2", *merges(model.n_vocab), ""]
        (partial / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
        provenance.write(made_from or {}, partial)
        seal(partial)


def _config(model: GPT) -> dict[str, Any]:
    config = model.config
    sites = {site: site_rate(config, site) for site in DropoutSites.model_fields}
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": model.n_vocab,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_positions": config.n_ctx,
        "n_ctx": config.n_ctx,  # its old name, by which llama.cpp asks for it
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "embd_pdrop": sites["embedding"],
        "attn_pdrop": sites["attention"],
        # Theirs has one rate for both additions to the residual stream, ours has two.
        "resid_pdrop": sites["attention_output"],
        "dropout_sites": sites,
        "attention_dropout": config.attention_dropout,
        "block_dropout": config.block_dropout,
        **_ends(model),
        "dtype": "float32",
    }


def _ends(model: GPT) -> dict[str, int | None]:
    """The token that stands at both ends of a text, and what fills up a batch."""
    return {f"{end}_token_id": model.end_of_text for end in ("bos", "eos", "pad")}


def _tokenizer_config(n_ctx: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": n_ctx,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "padding_side": "left",  # what is generated follows the text, not the padding
    }


def load(folder: Path) -> GPT:
    """The model, in eval mode on the CPU.

    Raises UserError where a folder that was made here is damaged, and where one from elsewhere
    holds what is not understood.
    """
    copied = f"copy it there again, or remove {SUMS} if that is meant"
    if PRETRAINED not in folder.parents:
        ours = folder.resolve() == TRAINED.resolve()  # else a copy of it, such as an export
        check_seal(folder, "train", FILES, "" if ours else copied)
    elif (folder / SUMS).exists():
        check_seal(folder, "train", [n for n in FILES if (folder / n).exists()], copied)
    return hugging_face.read(folder)


def inputs(folder: Path) -> dict[str, list[Path]]:
    """The files that say what a model is, by the names that records have for them."""
    return {"weights": hugging_face.weight_files(folder), "config": [folder / "config.json"]}


def past(folder: Path) -> Chain:
    """What the model of this pipeline, or one from elsewhere, is the result of."""
    chain = provenance.read(folder)
    return chain if folder == TRAINED or not chain else {provenance.MODEL: chain}


def lines_of_other_tokens(folder: Path, tokens: Path) -> list[str]:
    """A warning where the model says that it was trained on others than the folder `tokens` has."""
    made = provenance.read(folder).get("train")
    if made is None or made["inputs"]["tokens"] == provenance.checksum([tokens / SUMS]):
        return []
    return [
        f"warning: {folder} was trained on other tokens than {tokens} has, and may have read what "
        "is held out there"
    ]


def chosen(value: str | None, key: str) -> Path:
    """The folder that the parameter `key` means: one in pretrained/, or None for models/gpt.

    Raises UserError where there is none, and where DVC would not notice a change in it.
    """
    if value is None:
        return TRAINED
    folder = Path(value)
    try:
        # DVC follows links to files, but not to folders.
        watched = ".." not in folder.parts and folder.resolve() == Path.cwd().resolve() / folder
        there = folder.is_dir()
    except (OSError, ValueError) as error:
        raise UserError(f"params.yaml: {key} is {value!r}, no name of a folder: {error}") from None
    if not there and folder != TRAINED:
        raise UserError(
            f"params.yaml: {key} is {value!r}: no such folder; {HUB_PAGE} says how to fetch one "
            f"from the hub into {PRETRAINED}/ (and `dvc add` it, for --temp and --queue)"
        )
    if not watched or PRETRAINED not in folder.parents:
        raise UserError(
            f"params.yaml: {key} is {value!r}: DVC would not notice a change there; copy the "
            f"folder into {PRETRAINED}/ and name it so: {PRETRAINED}/NAME (null: {TRAINED})"
        )
    return folder
