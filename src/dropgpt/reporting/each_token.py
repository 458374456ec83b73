"""What the model expected at single tokens, which data/evaluation adds up by document."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from dropgpt.evaluation import Window, plan
from dropgpt.machine.threads import in_threads
from dropgpt.model.gpt import GPT
from dropgpt.params import Evaluate
from dropgpt.tokens.statistics import count_tokens
from dropgpt.tokens.tensor import TokenTensor

ENOUGH = 1 << 15  # tokens for a picture


def each_token(
    model: GPT,
    tokens: TokenTensor,
    params: Evaluate,
    train_tokens: int | None = None,
    enough: int = ENOUGH,
    shown: Callable[[Iterable[pd.DataFrame], int], Iterable[pd.DataFrame]] = lambda found, _: found,
) -> pd.DataFrame:
    """A row a held-out token, of some `enough` of them, in windows evenly spaced.

    The windows are among those of the stage evaluate, so that the losses are, too. `shown` is given
    what is found of each as it comes, and how many there are, and hands it on.

    before     how many tokens of context it had
    loss       in nats
    likeliest  the highest probability that the model gave to any token
    right      whether that token came
    seen       how often the token occurs in what was trained on: the first `train_tokens` of the
               training part, or all of it
    """
    lengths = tokens.held_out_documents.tokens.to_numpy()
    windows = plan(lengths, model.config.n_ctx, params.stride, params.across_documents)
    windows = windows[:: math.ceil(len(tokens.held_out) / enough)]
    inputs = np.roll(tokens.held_out, 1).astype(np.int64)  # what stands before token t is at t

    def one(window: Window) -> pd.DataFrame:
        ids = inputs[window.first : window.end].copy()
        if window.opens:
            ids[0] = model.end_of_text
        measured = slice(window.score - window.first, None)
        features = model.features(torch.from_numpy(ids)[None].to(model.device))[0, measured]
        logits = F.linear(features, model.head)
        targets = tokens.held_out[window.score : window.end].astype(np.int64)
        at_target = logits.gather(1, torch.from_numpy(targets).to(model.device)[:, None])[:, 0]
        highest = logits.amax(1)
        total = logits.sub_(highest[:, None]).exp_().sum(1)  # where the likeliest counts as 1
        return pd.DataFrame(
            {
                "before": np.arange(window.score, window.end) - window.first,
                "loss": (total.log() + highest - at_target).cpu().numpy(),
                "likeliest": (1 / total).cpu().numpy(),
                "right": (at_target == highest).cpu().numpy(),
                "token": targets,
            }
        )

    with torch.no_grad():
        table = pd.concat(shown(in_threads(one, windows), len(windows)), ignore_index=True)
    table["seen"] = count_tokens(tokens.train[:train_tokens], tokens.n_vocab)[table.pop("token")]
    return table
