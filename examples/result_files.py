"""Any trainer's model in `dropgpt compare`: it writes a file of its losses, text by text.

Two trainers do so here: nanoGPT, and the Trainer of transformers. Copy what is above "A try" into
yours; it needs nothing of dropgpt. docs/results.md describes the file.
"""

# %%
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

CONTEXT, STRIDE = 128, 64  # tokens: a window's length, and from one window to the next


# %% The file
# `ids` are a text's tokens and the token that ends it, `predict` maps tokens (1, time) to logits
# (1, time, vocabulary). Each token is measured once, and sees CONTEXT - STRIDE tokens or more.
def nats(predict: Callable[[torch.Tensor], torch.Tensor], ids: list[int], begin: int) -> float:
    total, score, inputs = 0.0, 0, [begin, *ids[:-1]]
    while score < len(ids):
        end = min(len(ids), score + (STRIDE if score else CONTEXT))
        first = max(0, end - CONTEXT)
        with torch.no_grad():
            logits = predict(torch.tensor([inputs[first:end]]))[0, score - first :].float()
        total += F.cross_entropy(logits, torch.tensor(ids[score:end]), reduction="sum").item()
        score = end
    return total


def write(file: str, texts: Any, ids: Any, losses: Any, made_by: Any, tokenizer: str) -> None:
    how = {"stride": STRIDE, "context": CONTEXT, "across_documents": False, "end_of_text": True}
    result: dict[str, Any] = {"format": "dropgpt result 1", "made_by": made_by, "measured": how}
    result["measured"] |= {"tokenizer": tokenizer, "dtype": "float32"}
    result["documents"] = [
        {"id": str(n), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        | {"bytes": len(text.encode()), "tokens": len(own), "nats": loss}
        for n, (text, own, loss) in enumerate(zip(texts, ids, losses, strict=True))
    ]
    Path(file).write_text(json.dumps(result))


# %% nanoGPT
# In its train.py write `seed = 1337` above `config_keys`, and `seed` for 1337 below it; at its end
# `of_nanogpt(raw_model.eval(), tiktoken.get_encoding("gpt2"), texts, "nano.json", config)`.
def of_nanogpt(model: Any, encoding: Any, texts: list[str], file: str, config: Any) -> None:
    end, place = encoding.eot_token, config["device"]
    ids = [[*encoding.encode_ordinary(text), end] for text in texts]
    # Only where it is given targets does it give the logits of all places.
    losses = [nats(lambda x: model(x.to(place), x.to(place))[0].cpu(), own, end) for own in ids]
    made_by = {k: v for k, v in config.items() if not k.startswith(("init", "out", "seed", "wand"))}
    write(file, texts, ids, losses, made_by | {"train.seed": config["seed"]}, "GPT-2")


# %% The Trainer of transformers
# After `trainer.train()`, since it makes the weights float32: `of_trainer(trainer, texts, FILE)`.
def of_trainer(trainer: Any, texts: list[str], file: str) -> None:
    tokens, args = trainer.processing_class, trainer.args
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).float().eval()
    end = tokens.eos_token_id
    begin = end if tokens.bos_token_id is None else tokens.bos_token_id
    plain = {"add_special_tokens": False, "split_special_tokens": True}
    ids = [[*tokens.encode(text, **plain), end] for text in texts]

    def predict(row: torch.Tensor) -> torch.Tensor:
        if begin != end:
            row[:, 0] = begin  # a model that has a BOS may need it wherever a window begins
        return model(row.to(model.device)).logits.cpu()

    losses = [nats(predict, own, begin) for own in ids]
    known = {"train.seed": args.seed, "train.learning_rate": args.learning_rate}
    write(file, texts, ids, losses, known, type(tokens).__name__)


# %% A try
# Two that have learned nothing, the first of which is more certain of it. Tokens are bytes.
Path("reports").mkdir(exist_ok=True)
texts = ["A text.", "Another one.", "A third.", "It goes on.", "Is this the end?", "No.", "Now."]
ids = [[*text.encode(), 256] for text in texts]
for seed in (1, 2, 3):
    logits = torch.randn(257, 257, generator=torch.manual_seed(seed))
    for name, scale in (("certain", 2.0), ("dull", 0.1)):
        losses = [nats((scale * logits).__getitem__, own, 256) for own in ids]
        made_by = {"scale": scale, "train.seed": seed}
        write(f"reports/{name}-{seed}.json", texts, ids, losses, made_by, "bytes")
print("now: dropgpt compare reports/*.json --by scale")
