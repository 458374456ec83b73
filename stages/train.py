"""data/tokens -> a GPT in models/gpt, its loss curves and its outcome"""

from pathlib import Path

from dropgpt import artifact, tokens, training
from dropgpt.files import replacing, write_json
from dropgpt.hardware import compute_dtype, prepare
from dropgpt.params import Params
from stages import run


def train(params: Params) -> None:
    device = prepare(params.runtime)
    dtype = compute_dtype(params.train.precision, device)
    tensor = tokens.read(Path("data/tokens"))
    result = training.train(
        params.model,
        params.train,
        tensor.train,
        tensor.held_out,
        device,
        dtype,
        params.runtime.log_interval,
    )
    artifact.save(result.model, Path("models/gpt"))
    for name, table in (("training", result.steps), ("validation", result.looks)):
        with replacing(Path(f"metrics/{name}.csv")) as partial:
            table.to_csv(partial, index=False)
    write_json(Path("metrics/train.json"), training.outcome(result))


if __name__ == "__main__":
    run(train)
