"""Which kind of model it is, and with what it is read."""

from pathlib import Path

import torch

from dropgpt.comparison.experiments import made_by
from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS
from dropgpt.measuring import nano_gpt
from dropgpt.measuring.language_model import LanguageModel, of_gpt
from dropgpt.model import artifact
from dropgpt.tokens.vocabulary import N_VOCAB
from dropgpt.writing import check_there


def opened(name: str, device: torch.device, revision: str | None = None) -> LanguageModel:
    """The model in a folder that was made here, in nanoGPT's ckpt.pt, or as transformers opens it.

    `revision` is of a model on the hub. Raises UserError where there is none, or none that can be
    measured.
    """
    path = Path(name)
    if revision and path.exists():
        raise UserError(
            f"{name} lies here and has one revision: leave out --revision {revision}, which is for "
            "a name on the hub"
        )
    if path.is_file():
        model, known = nano_gpt.read(path)
        return of_gpt(model.to(device), N_VOCAB, known)
    if (path / SUMS).is_file() and (path / provenance.FILE).is_file():  # both: made here
        model = artifact.load(path).to(device)  # first, since it sees whether a file is damaged
        chain = provenance.read(path)
        files = artifact.inputs(path)
        known = {"model": name} | {key: provenance.checksum(files[key])[:8] for key in files}
        return of_gpt(model, model.n_vocab, made_by(chain) if "train" in chain else known)
    if path.parts[:1] in (("models",), ("pretrained",)) and Path(path.parts[0]).is_dir():
        check_there(path)  # or the hub would be asked for it
    from dropgpt.measuring import transformers_model  # which needs transformers

    return transformers_model.read(name, device, revision)
