"""data/tokens -> a GPT in models/gpt, its loss curves and its outcome"""

from pathlib import Path

from ruamel.yaml import YAML

from dropgpt.machine.files import SUMS, replacing, sha256, write_json
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.machine.slot import slot
from dropgpt.model import artifact
from dropgpt.params import Params
from dropgpt.tokens import tensor
from dropgpt.training import checkpoint, loop
from stages import run


def train(params: Params) -> None:
    device = prepare(params.runtime)
    dtype = compute_dtype(params.train.precision, device)
    surroundings = environment(device, dtype)
    tokens = tensor.read(Path("data/tokens"))
    inputs = {
        "model": params.model.model_dump(),
        "train": params.train.model_dump(),
        "environment": surroundings,
        "files": _files(),
    }
    with (
        checkpoint.of_training(inputs, params.runtime.checkpoint_interval) as saved,
        slot(device),
    ):
        result = loop.train(
            params.train,
            params.model,
            training=tokens.train,
            held_out=tokens.held_out,
            device=device,
            dtype=dtype,
            log_interval=params.runtime.log_interval,
            checkpoint=saved,
        )
        artifact.save(result.model, Path("models/gpt"))
        for name, table in (("training", result.steps), ("validation", result.validations)):
            with replacing(Path(f"metrics/{name}.csv")) as partial:
                table.to_csv(partial, index=False)
        write_json(Path("metrics/train.json"), loop.outcome(result))
        write_json(Path("metrics/environment/train.json"), surroundings)


def _files() -> dict[str, str]:
    """The files that dvc.yaml says this stage depends on, and their checksums."""
    paths = map(Path, YAML(typ="safe").load(Path("dvc.yaml"))["stages"]["train"]["deps"])
    files = (
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*.py")) or [path / SUMS])
    )
    return {file.as_posix(): sha256(file) for file in files}


if __name__ == "__main__":
    run(train)
