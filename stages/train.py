"""data/tokens -> a GPT in models/gpt, its loss curves and its outcome"""

from pathlib import Path

from ruamel.yaml import YAML

from dropgpt import artifact, checkpoint, tokens, training
from dropgpt.files import SUMS, replacing, sha256, write_json
from dropgpt.hardware import compute_dtype, environment, prepare
from dropgpt.params import Params
from dropgpt.slot import slot
from stages import run


def train(params: Params) -> None:
    device = prepare(params.runtime)
    dtype = compute_dtype(params.train.precision, device)
    surroundings = environment(device, dtype)
    tensor = tokens.read(Path("data/tokens"))
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
        result = training.train(
            params.model,
            params.train,
            tensor.train,
            tensor.held_out,
            device,
            dtype,
            params.runtime.log_interval,
            saved,
        )
        artifact.save(result.model, Path("models/gpt"))
        for name, table in (("training", result.steps), ("validation", result.looks)):
            with replacing(Path(f"metrics/{name}.csv")) as partial:
                table.to_csv(partial, index=False)
        write_json(Path("metrics/train.json"), training.outcome(result))
        write_json(Path("metrics/environment/train.json"), surroundings)


def _files() -> dict[str, str]:
    """The files that dvc.yaml says this stage depends on, and their checksums."""
    paths = map(Path, YAML(typ="safe").load(Path("dvc.yaml"))["stages"]["train"]["deps"])
    files = (path / SUMS if path.is_dir() else path for path in paths)
    return {file.as_posix(): sha256(file) for file in files}


if __name__ == "__main__":
    run(train)
