"""A model -> generations in samples/, at each temperature"""

from itertools import product
from pathlib import Path
from typing import Any

import torch

from dropgpt import generation
from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.files import replacing, write_json
from dropgpt.machine.hardware import environment, prepare
from dropgpt.machine.memory import enough_memory
from dropgpt.machine.progress import progress
from dropgpt.machine.slot import slot
from dropgpt.model import artifact
from dropgpt.params import Params
from dropgpt.tokens.vocabulary import encode_prompt, gpt2_encoding
from stages import run


def sample(params: Params) -> list[str]:
    device = prepare(params.runtime.device, params.runtime.threads)
    folder = artifact.chosen(params.sample.model, "sample.model")
    model = artifact.load(folder)
    encoding = gpt2_encoding(model.n_vocab)
    prompts = {text: encode_prompt(encoding, text) for text in params.sample.prompts}
    for number, ids in enumerate(prompts.values()):
        if len(ids) > model.config.n_ctx:
            raise UserError(
                f"params.yaml: sample.prompts.{number} has {len(ids)} tokens, more than the "
                f"model's context of {model.config.n_ctx}: shorten it"
            )

    pairs = list(product(prompts, params.sample.temperatures))
    generations: list[dict[str, Any]] = []
    advice = "fewer sample.prompts or sample.temperatures, or runtime.device cpu, take less"
    with (
        enough_memory(f"sample, on {device}", advice),
        slot(device),
        progress("sample", "generations", params.runtime.log_interval, len(pairs)) as bar,
    ):
        model.to(device)
        asked = [(prompts[text], temperature) for text, temperature in pairs]
        made = generation.generations(model, asked, params.sample)
        for (text, temperature), ids in zip(pairs, made, strict=True):
            generations.append(
                {
                    "prompt": text,
                    "temperature": temperature,
                    "text": encoding.decode(ids),
                    "tokens": ids,
                    "ended": len(ids) < params.sample.tokens,
                }
            )
            bar.update()

    made_from = artifact.past(folder) | provenance.record(
        "sample",
        {"sample": params.sample},
        artifact.inputs(folder),
        environment(device, torch.float32),
    )
    with replacing(Path("samples")) as partial:
        partial.mkdir()
        write_json(partial / "samples.json", generations)
        (partial / "samples.md").write_text(generation.page(generations), encoding="utf-8")
        variety = {
            f"temperature {temperature}": generation.variety(
                [g["tokens"] for g in generations if g["temperature"] == temperature]
            )
            for temperature in params.sample.temperatures
        }
        write_json(partial / "variety.json", variety)
        provenance.write(made_from, partial)
    model_option = "" if folder == artifact.TRAINED else f" --model {folder}"
    return [
        f"{len(generations)} generations: samples/samples.md",
        f'try one of your own: dropgpt write "Once upon a time"{model_option}',
    ]


if __name__ == "__main__":
    run(sample)
