"""data/tokens -> a GPT in models/gpt, its loss curves and its outcome"""

from pathlib import Path

from dropgpt import unread
from dropgpt.errors import warn
from dropgpt.machine import processes, provenance
from dropgpt.machine.files import SUMS, replacing, write_json
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.machine.slot import slot
from dropgpt.model import artifact
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.tokens.batches import readings_in_words
from dropgpt.training import checkpoint, loop, tracker
from stages import check_inputs, run

TOKENS = Path("data/tokens")


def train(params: Params) -> list[str]:
    device = prepare(params.runtime.device, params.runtime.threads_of_model)
    dtype = compute_dtype(params.train.precision, device)
    tokens = tensor.read(TOKENS)
    made_from = provenance.read(TOKENS) | provenance.record(
        "train",
        {"model": params.model, "train": params.train},
        {"tokens": [TOKENS / SUMS]},
        environment(device, dtype, params.runtime.shard_weights),
    )
    if not processes.rank():
        found = unread.of_training(params.model, params.train)
        for line in unread.lines(found, model=params.model, train=params.train):
            warn(line)
    with (
        checkpoint.of_training(made_from, params.runtime.checkpoint_interval) as saved,
        tracker.of_training(params.runtime.tracker, saved.path.stem) as tell,
        slot(device),
    ):
        result = loop.train(
            params.train,
            params.model,
            tokens,
            device=device,
            dtype=dtype,
            log_interval=params.runtime.log_interval,
            checkpoint=saved,
            tell=tell,
            shard_weights=params.runtime.shard_weights,
        )
        if processes.rank():
            return []
        if len(saved.processes) > 1:
            made_from["train"]["environment"]["processes"] = saved.processes
        artifact.save(result.model, artifact.TRAINED, made_from)
        for name, table in (("training", result.steps), ("validation", result.validations)):
            with replacing(Path(f"metrics/{name}.csv")) as partial:
                table.to_csv(partial, index=False)
        outcome = loop.outcome(result)
        write_json(Path("metrics/train.json"), outcome)
        check_inputs()  # before the checkpoint is let go: the old parameters may come back
        saved.end()
    held_out = result.validations.validation_loss.iloc[-1]
    read = readings_in_words(made_from["train"]["params"], tokens.n_train)
    highest = result.steps.learning_rate.max()
    warming = [
        f"warning: train.warmup_steps is {params.train.warmup_steps}, so that the learning rate "
        f"was {highest:.3g} at most, not what train.learning_rate says"
    ]
    return [
        f"read {read}, in {params.train.steps:,} steps",
        *(warming if highest < 0.999 * params.train.learning_rate else []),
        f"loss {outcome['train_loss']:.3f} in training, {held_out:.3f} held out, in nats a token: "
        f"{artifact.TRAINED}",
    ]


if __name__ == "__main__":
    run(train, in_processes=True)
