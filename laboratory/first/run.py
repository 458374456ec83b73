"""One run of the plan, trained and measured: `python -m laboratory.first.run VARIANT SEED`"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from dropgpt import evaluation
from dropgpt.evaluation import Losses, by_document, document_losses, losses
from dropgpt.machine.files import replacing, sha256
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.machine.slot import slot
from dropgpt.model.gpt import GPT, Block
from dropgpt.params import Evaluate, Params
from dropgpt.randomness import seed_dropout
from dropgpt.tokens.array import Tokens
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.training import checkpoint
from dropgpt.training.loop import Result, train
from laboratory.first import plan
from laboratory.first.plan import SETTING, RunParams
from laboratory.first.prepare import prepared_tokens
from stages import run


def make(params: Params, variant: str, seed: int, output: Path) -> None:
    """Write to `output` what the run finds; see `found`. Goes on where it was stopped."""
    chosen = plan.load()
    own = chosen.params(variant, seed)
    # A run for each core gets further than a core more for each run.
    device = prepare(params.runtime.device, 1)
    dtype = compute_dtype(own.train.precision, device)
    made_by = {
        "params": own.model_dump(),
        "setting": sha256(SETTING),
        "environment": environment(device, dtype),
    }
    tokens = prepared_tokens(chosen)
    with (
        checkpoint.of_training({"train": made_by}, params.runtime.checkpoint_interval) as saved,
        slot(device),
    ):
        result = train(
            own.train,
            own.model,
            tokens,
            device=device,
            dtype=dtype,
            log_interval=params.runtime.log_interval,
            checkpoint=saved,
        )
        values = {"made_by": made_by} | found(result, tokens, own)
        with replacing(output) as partial:
            partial.write_text(text(values), encoding="utf-8")


def found(result: Result, tokens: TokenTensor, own: RunParams) -> dict[str, Any]:
    """What a run has found, losses in nats.

    validations  step -> loss a token, with dropout off
    training     the mean loss between two validations, with dropout on
    documents    what each held-out document takes in all, by the weights after the last step:
                 nats, and where the plan asks for it nats_dropout_on, nats_monte_carlo and
                 nats_attention_on, as in `evaluation.document_losses`
    tokens       where the plan asks for it, what each held-out token takes: float16 in base64
    """
    interval = own.train.validation_interval
    training = result.steps.groupby(result.steps.step // interval).loss.mean()
    documents = tokens.documents[tokens.documents.held_out]
    model = result.model.eval()
    each = measured(model, tokens.held_out, documents.tokens.to_numpy(), own.evaluate)
    sums = {"nats": by_document(each, documents)}
    if own.measure.dropout_on:
        table = document_losses(model, tokens.held_out, documents, own.evaluate)
        for name in ("nats_dropout_on", "nats_monte_carlo"):
            sums[name] = table[name].to_numpy()
        leave_attention_on(model)
        on = measured(model, tokens.held_out, documents.tokens.to_numpy(), own.evaluate)
        sums["nats_attention_on"] = by_document(on, documents)
    values = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "validations": dict(
            zip(
                map(str, result.validations.step),
                result.validations.validation_loss.round(6),
                strict=True,
            )
        ),
        "training": training.round(6).tolist(),
        "documents": {"tokens": documents.tokens.tolist(), "bytes": documents.bytes.tolist()}
        | {name: nats.round(3).tolist() for name, nats in sums.items()},
    }
    if own.measure.tokens:
        values["tokens"] = base64.b64encode(each.astype("<f2").tobytes()).decode()
    return values


def measured(model: GPT, ids: Tokens, lengths: Any, params: Evaluate) -> Losses:
    """The loss of each token in nats, in whatever mode the model is."""
    return losses(
        model,
        ids,
        evaluation.plan(lengths, model.config.n_ctx, params.stride),
        params.batch_size,
        before_batch=lambda windows: seed_dropout(
            params.seed, "evaluation", 0, windows, model.head.device
        ),
    )


def leave_attention_on(model: GPT) -> None:
    """Eval mode but for the dropout on the attention weights.

    That is what comes of scaled_dot_product_attention, which knows no mode, where its caller
    does not set its rate to 0.
    """
    model.eval()
    for block in model.h:
        assert isinstance(block, Block)
        block.attn.training = True  # of the module alone, not of the dropout on its output


def text(values: dict[str, Any]) -> str:
    """JSON with a line for each thing found, so that git shows which differ."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(variant: str, seed: int) -> None:
    def laboratory(params: Params) -> None:
        make(params, variant, seed, plan.file(variant, seed))

    run(laboratory)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
