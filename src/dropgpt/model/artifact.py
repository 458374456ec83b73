"""The trained model as a standard Hugging Face GPT-2 folder.

`GPT2LMHeadModel.from_pretrained` and `AutoTokenizer.from_pretrained` open it; so does `load`.
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file
from safetensors.torch import save as serialised

from dropgpt.machine import provenance
from dropgpt.machine.files import check_seal, replacing, seal, write_json
from dropgpt.machine.provenance import Chain
from dropgpt.model.gpt import GPT, site_rate
from dropgpt.params import DropoutSites, Model
from dropgpt.tokens.vocabulary import END_OF_TEXT, END_OF_TEXT_ID, N_VOCAB, vocabulary_files

# Hugging Face's GPT-2 keeps these as Conv1D, the transpose of nn.Linear.
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def save(model: GPT, folder: Path, made_from: Chain | None = None) -> None:
    """Write the weights (safetensors, float32), the config, the tokenizer files and `made_from`."""
    weights = {}
    for name, weight in model.state_dict().items():
        weight = weight.detach().cpu()
        if name.startswith("ln_f."):
            weight = weight * model.logit_scale  # the last LayerNorm takes in the factor
        if name.endswith(TRANSPOSED):
            weight = weight.T
        weights[f"transformer.{name}"] = weight.contiguous()
    config = model.config
    sites = {site: site_rate(config, site) for site in DropoutSites.model_fields}
    vocabulary = vocabulary_files()
    with replacing(folder) as partial:
        partial.mkdir()
        # Not save_file, which hides from us that a disk is full.
        content = serialised(weights, metadata={"format": "pt"})
        (partial / "model.safetensors").write_bytes(content)
        write_json(
            partial / "config.json",
            {
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "vocab_size": N_VOCAB,
                "n_layer": config.n_layer,
                "n_head": config.n_head,
                "n_embd": config.n_embd,
                "n_positions": config.n_ctx,
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
                "bos_token_id": END_OF_TEXT_ID,
                "eos_token_id": END_OF_TEXT_ID,
                "dtype": "float32",
            },
        )
        write_json(
            partial / "tokenizer_config.json",
            {
                "tokenizer_class": "GPT2Tokenizer",
                "model_max_length": config.n_ctx,
                "bos_token": END_OF_TEXT,
                "eos_token": END_OF_TEXT,
                "unk_token": END_OF_TEXT,
            },
        )
        shutil.copyfile(vocabulary["encoder.json"], partial / "vocab.json")
        shutil.copyfile(vocabulary["vocab.bpe"], partial / "merges.txt")
        provenance.write(made_from or {}, partial)
        seal(partial)


def load(folder: Path) -> GPT:
    """The model, in eval mode on the CPU. Raises UserError where the folder is damaged."""
    check_seal(folder, "train")
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = Model(
        n_layer=stored["n_layer"],
        n_head=stored["n_head"],
        n_embd=stored["n_embd"],
        n_ctx=stored["n_positions"],
        dropout=0.0,
        dropout_sites=stored["dropout_sites"],
        attention_dropout=stored["attention_dropout"],
        block_dropout=stored["block_dropout"],
        scale_logits=False,
        token_embedding_std=None,
    )
    model = GPT(config)
    weights = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        name = name.removeprefix("transformer.")
        weights[name] = weight.T if name.endswith(TRANSPOSED) else weight
    model.load_state_dict(weights)
    return model.eval()
