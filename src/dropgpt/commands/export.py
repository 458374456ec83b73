"""`dropgpt export`: a model and its model card, as a folder for the Hugging Face hub."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from dropgpt.errors import UserError
from dropgpt.machine import provenance
from dropgpt.machine.files import SUMS, check_seal, replacing
from dropgpt.machine.provenance import Chain
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.model.hugging_face import weight_files
from dropgpt.perplexity import in_words, number_in_words
from dropgpt.reporting.dropout import in_words as dropout_in_words

EVALUATION = Path("data/evaluation")
SUMMARY = "summary.json"  # in there
PARTIAL = ".dropgpt-partial"  # where a folder that is there is written, till all of it is
CARD = Path(__file__).with_name("model_card.md.jinja")

# By data.source: what a card's front matter says of the text, and what it is measured on.
FRONT: dict[str, dict[str, Any]] = {
    # Of the texts some are under 3.0, which lets what is made of them be under 4.0.
    "wikipedia": {"license": "cc-by-sa-4.0", "language": "en"},
    "fineweb": {"license": "odc-by", "language": "en", "datasets": ["HuggingFaceFW/fineweb"]},
    "hub": {"license": "unknown"},  # where the data set's own card does not say it
    "files": {"license": "unknown"},
}
TEXT = {"wikipedia": "English Wikipedia", "fineweb": "HuggingFaceFW/fineweb", "files": "own files"}


def run(folder: Path, model: Path) -> None:
    if folder.is_dir() and any(path.name != PARTIAL for path in folder.iterdir()):
        raise UserError(f"{folder} is not empty: name a folder that is not there yet")
    if model != artifact.TRAINED and not model.is_dir():
        raise UserError(f"{model}: no such folder")
    if model.is_dir() and not (model / SUMS).exists():
        raise UserError(f"{model} was not made here (it has no {SUMS}), so no card can be written")
    gpt = artifact.load(model)
    chain = provenance.read(model)
    if "source" not in chain.get("tokenize", {}).get("params", {}).get("data", {}):
        raise UserError(
            f"{model} does not say what it was trained on, so no card can be written; "
            "`dvc repro train` makes models/gpt, which does"
        )
    place = folder.resolve()
    try:
        place.name.encode()
    except UnicodeEncodeError:
        raise UserError(f"a model card is UTF-8, and {folder} is not: name it otherwise") from None
    found = measured(model, chain)
    card = model_card(place.name, gpt, chain, found)
    try:
        with _whole(place) as partial:
            for name in (*artifact.FILES, SUMS):
                shutil.copyfile(model / name, partial / name)
            card.save(partial / "README.md")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}") from None
    print(f"{place}: the model, and its card in README.md")
    if not found:
        print(
            f"README.md: says that it has not been measured; {EVALUATION} of its project, or of "
            "this one, by `dvc repro evaluate`, would say how good it is"
        )
    if card.data.get("license") == "unknown":
        print("README.md: say there under which licence your texts are, in its front matter, too")
    # The hub takes ASCII, no - or . at an end, and neither twice.
    hub_name = re.sub(r"[^A-Za-z0-9_.]+|[.-]{2,}", "-", place.name)[:80].strip("-.") or "model"
    upload = shlex.join(["hf", "upload", f"YOUR_NAME/{hub_name}", str(folder)])
    print(f"to the hub: {upload}")


@contextmanager
def _whole(place: Path) -> Iterator[Path]:
    """Give a folder to write in; all of it then stands at `place`, or nothing."""
    if not place.is_dir():
        with replacing(place) as partial:
            partial.mkdir()
            yield partial
        return
    # An empty one may be where the user is, and another in its place would not be.
    partial = place / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)  # a kill has left it
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            file.rename(place / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def measured(model: Path, chain: Chain) -> dict[str, Any] | None:
    """What the stage evaluate found for these very weights on their own held-out part.

    It lies in the project of the model, or else in the one in which we are. None where it measured
    others, or on other texts.
    """
    folder = Path(os.path.relpath(model.resolve().parent.parent / EVALUATION))
    if not folder.exists():
        folder = EVALUATION
    if not folder.exists():
        return None
    check_seal(folder, "evaluate", [SUMMARY, provenance.FILE])
    record = provenance.read(folder)["evaluate"]
    inputs = {
        "weights": provenance.checksum(weight_files(model)),
        "tokens": chain["train"]["inputs"]["tokens"],
    }
    if any(record["inputs"][name] != checksum for name, checksum in inputs.items()):
        return None
    found: dict[str, Any] = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    asked = record["params"]["evaluate"]
    return found | {key: asked[key] for key in ("stride", "across_documents")}


def model_card(name: str, gpt: GPT, chain: Chain, found: dict[str, Any] | None) -> ModelCard:
    """The card of a model that was made as `chain` says and measured as `found` says."""
    params = {key: value for stage in chain.values() for key, value in stage["params"].items()}
    texts = params["data"]
    source = texts["source"]
    front, name_of_text = dict(FRONT[source]), TEXT.get(source, texts.get("dataset"))
    if source == "hub":
        front |= {"datasets": [name_of_text]} | chain["tokenize"].get("card", {})
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=name_of_text if source in ("fineweb", "hub") else source,
            dataset_name=f"{name_of_text}, held-out part",
            metric_type=metric,
            metric_value=found[metric],
        )
        for metric in ("bits_per_byte", "perplexity")
        if found and found[metric] is not None
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gpt2", "dropout", "dropgpt"],
        metrics=["bits_per_byte", "perplexity"] if found else None,
        model_name=name,
        eval_results=results or None,
        **front,
    )
    perplexity, interval = in_words(found) if found else ("", "")
    return ModelCard.from_template(
        data,
        template_str=CARD.read_text(encoding="utf-8"),
        name=name,
        source=source,
        texts=texts,
        license=front["license"],
        parameters=sum(p.numel() for p in gpt.parameters()),
        shape=gpt.config,
        n_vocab=gpt.n_vocab,
        dropout=dropout_in_words(params["model"], params["train"]),
        train=params["train"],
        params=json.dumps(params, indent=2),
        environment=chain["train"]["environment"],
        code=chain["train"]["code"],
        version=version("dropgpt"),
        found=found,
        perplexity=perplexity,
        interval=interval,
        in_words=number_in_words,
    )
