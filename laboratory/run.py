"""One run, trained and measured at each length: `python -m laboratory.run SIZE VARIANT SEED`

Trainings of several lengths have a trunk in common, the steps at a constant learning rate. From
it a branch decays at each length, in the bits of a whole training of that length.
"""

import json
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dropgpt.errors import UserError
from dropgpt.evaluation import by_document, document_losses, losses
from dropgpt.evaluation import plan as windows_of
from dropgpt.machine.files import replacing, sha256
from dropgpt.machine.hardware import compute_dtype, environment, prepare
from dropgpt.machine.inputs import compare
from dropgpt.machine.slot import slot
from dropgpt.model.gpt import GPT
from dropgpt.params import Params, Runtime, Train
from dropgpt.tokens.tensor import TokenTensor
from dropgpt.training.checkpoint import Checkpoint, of_training
from dropgpt.training.loop import Result, train
from laboratory.ensembles import together
from laboratory.plan import RunParams, Size, arguments
from laboratory.texts import Part, code, texts
from stages import run


def make(params: Params, size: Size, variant: str, seed: int, output: Path) -> None:
    """Write to `output` what the run finds; see `found`. Goes on where it was stopped.

    Raises UserError where the plan or the setting was edited meanwhile.
    """
    before = read(size, variant, seed)
    own, setting, *_ = before.values()
    # A run for each core gets further than a core more for each run.
    device = prepare(params.runtime.device, 1)
    dtype = compute_dtype(own.train.precision, device)
    made_by = {"params": own.model_dump(), "environment": environment(device, dtype)}
    parts = texts(size)
    assert own.train.tokens is not None  # RunParams sees to it
    text_of_run = parts.drawn(own.train.seed, own.train.tokens)
    inputs = made_by | {"setting": setting}
    trainings = Trainings(
        params.runtime, device, dtype, inputs, text_of_run, parts.development, parts.test
    )
    with ExitStack() as until_written:
        models = own.models()
        trunks = [until_written.enter_context(trainings.checkpoint("trunk", one)) for one in models]
        until_written.enter_context(slot(device))
        each = [trainings.lengths(*pair) for pair in zip(models, trunks, strict=True)]
        values = {
            "made_by": made_by,
            "parameters": sum(p.numel() for p in GPT(own.model, text_of_run.n_vocab).parameters()),
            "documents": {
                name: part.documents[["tokens", "bytes"]].to_dict("list")
                for name, part in (("development", parts.development), ("test", parts.test))
            },
            "lengths": {
                readings: together([one[readings] for one in each], parts.test.documents)
                for readings in each[0]
            }
            if own.members
            else each[0],
        }
        # Before the checkpoints are let go: what was edited may come back.
        compare("laboratory", before, read(size, variant, seed), size.command)
        with replacing(output) as partial_file:
            partial_file.write_text(text(values), encoding="utf-8")


def read(size: Size, variant: str, seed: int) -> dict[str, Any]:
    """What of a run stands in files, under their names: its parameters, what it is made with."""
    return {
        f"{size.plan}: variants.{variant}": size.load().params(variant, seed),
        str(size.setting): sha256(size.setting) if size.setting.is_file() else None,
    } | code()


@dataclass(frozen=True)
class Trainings:
    """What the trainings of a run have in common."""

    runtime: Runtime
    device: torch.device
    dtype: torch.dtype
    inputs: dict[str, Any]
    text: TokenTensor
    development: Part
    test: Part

    def lengths(self, own: RunParams, trunk: Checkpoint) -> dict[str, Any]:
        """What one model has found at each length; those that were done before are not made."""
        kept = trunk.path.with_suffix(".json")
        done: dict[str, Any] = {}
        with suppress(FileNotFoundError):
            done = json.loads(kept.read_text(encoding="utf-8"))
        for readings in sorted(own.readings):
            training = own.training(readings)
            if str(readings) in done:
                continue
            if own.has_trunk:
                self._trained(own, own.trunk(readings), trunk)
            with self.checkpoint(readings, own) as branch:
                if own.has_trunk and branch.load() is None:
                    state = trunk.load()
                    assert state is not None  # its training saves its end
                    branch.save(state, own.trunk(readings).steps)
                result = self._trained(own, training, branch)
            done[str(readings)] = found(result, own, self.development, self.test)
            with replacing(kept) as partial_file:
                partial_file.write_text(json.dumps(done), encoding="utf-8")
        return done

    def checkpoint(self, part: str | int, own: RunParams) -> AbstractContextManager[Checkpoint]:
        """Of a model's trunk, or of its branch to a length."""
        training = own.trunk(max(own.readings)) if part == "trunk" else own.training(int(part))
        params = self.inputs["params"]
        inputs = self.inputs | {
            "part": part,
            "text": params["train"]["seed"],
            "params": params | {"train": training.model_dump()},
        }
        return of_training({"train": inputs}, self.runtime.checkpoint_interval)

    def _trained(self, own: RunParams, training: Train, saved: Checkpoint) -> Result:
        return train(
            training,
            own.model,
            self.text,
            device=self.device,
            dtype=self.dtype,
            log_interval=self.runtime.log_interval,
            checkpoint=saved,
        )


def found(result: Result, own: RunParams, development: Part, test: Part) -> dict[str, Any]:
    """What a training has found, losses in nats.

    training     the mean loss of the last reading's steps, a token, dropout on
    development  the loss a token on the development documents, dropout off
    test         what each test document takes in all, dropout off
    monte_carlo  by the number of passes: the same of the mean of the passes' probabilities, and
                 `on`, the mean of their losses
    tokens       of one of several models: what each token takes, dropout off, by part
    """
    model = result.model.eval()
    each = {"development": measured(model, development, own), "test": measured(model, test, own)}
    values: dict[str, Any] = {
        "training": round(float(result.steps.loss[-own.train.steps :].mean()), 6),
        "development": round(float(each["development"].mean()), 6),
        "test": by_document(each["test"], test.documents).round(3).tolist(),
    }
    if own.monte_carlo:
        values["monte_carlo"] = {
            passes: monte_carlo(model, test, own, passes) for passes in own.monte_carlo
        }
    if own.members:
        values["tokens"] = {part: nats.tolist() for part, nats in each.items()}
    return values


def measured(model: GPT, part: Part, own: RunParams) -> Any:
    """The loss of each of the part's tokens in nats, (tokens,)."""
    lengths = part.documents.tokens.to_numpy()
    windows = windows_of(lengths, own.model.n_ctx, own.evaluate.stride)
    return losses(model, part.tokens, windows, own.evaluate.batch_size)


def monte_carlo(model: GPT, part: Part, own: RunParams, passes: int) -> dict[str, list[float]]:
    """What each document takes with dropout left on, in so many passes."""
    evaluate = own.evaluate.model_copy(update={"dropout_passes": passes})
    table = document_losses(model, part.tokens, part.documents, evaluate)
    return {
        "test": table.nats_monte_carlo.round(3).tolist(),
        "on": table.nats_dropout_on.round(3).tolist(),
    }


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


def main(name: str, variant: str, seed: str) -> None:
    def laboratory(params: Params) -> None:
        size = Size(name)
        if not seed.isdecimal():
            raise UserError(f"laboratory: {seed!r} is no seed, which is a whole number")
        make(params, size, variant, int(seed), size.run(variant, int(seed)))

    run(laboratory)


if __name__ == "__main__":
    main(*arguments("SIZE", "VARIANT", "SEED"))
