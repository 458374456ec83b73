"""`dropgpt write`: a model writes to the terminal, token by token."""

import sys
from pathlib import Path

from dropgpt.machine.hardware import prepare
from dropgpt.machine.memory import enough_memory
from dropgpt.tokens.vocabulary import encode_prompt, gpt2_encoding
from dropgpt.writing import load, pieces, settings


def run(
    prompt: str,
    model: Path,
    temperature: float,
    tokens: int,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
) -> None:
    params = settings(prompt, temperature, tokens, top_k, top_p, seed)
    device = prepare()
    with enough_memory("write", "`CUDA_VISIBLE_DEVICES= dropgpt write` takes the processor"):
        gpt = load(model).to(device)
        if seed is None:
            print(f"write: --seed {params.seed} writes this again", file=sys.stderr)
        read, n_ctx = encode_prompt(gpt2_encoding(gpt.n_vocab), *params.prompts), gpt.config.n_ctx
        if len(read) > n_ctx:
            print(
                f"write: the prompt has {len(read):,} tokens, and the model reads the last {n_ctx}",
                file=sys.stderr,
            )
        try:
            for text in pieces(gpt, params):
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            print()  # what the shell says next begins a line
            raise
    print()
