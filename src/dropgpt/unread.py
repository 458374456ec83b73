"""What of params.yaml nothing reads, as its other values stand."""

from typing import Any

from dropgpt.params import READ, Data, Model, Params, Section, Train, dotted

# What params.yaml has for keys that only some values of others read: it may stay there.
USUAL: dict[str, Any] = {
    "data.documents": 1000,
    "data.text_column": "text",
    "data.separator": "<|endoftext|>",
    "data.deduplicate": True,
    "tokenize.validation_fraction": 0.04,
    "model.dropout": 0.1,
    "model.attention_dropout": "weights",
    "train.dropout_schedule": "constant",
    "train.dropout_switch_step": 0,
    "train.final_learning_rate": 0.0,
}
# The keys of section data that may stand there unread; others would name texts that are not read.
OF_TEXTS = ("documents", "text_column", "separator", "deduplicate")


def unread(params: Params) -> dict[str, str]:
    """Each key that can change neither the model nor the held-out loss, and why."""
    of_texts = of_data(params.data) | of_tokenize(params.data)
    return of_texts | of_training(params.model, params.train)


def of_data(data: Data) -> dict[str, str]:
    """Those of section data."""
    found = {}
    for key in OF_TEXTS:
        if key not in READ[data.source]:
            but = ", and only evaluate.extra_corpora follow it" if key in READ["files"] else ""
            found[f"data.{key}"] = f"data.source is {data.source}{but}"
    return found


def of_tokenize(data: Data) -> dict[str, str]:
    """Those of section tokenize."""
    if not data.held_out_split:
        return {}
    return {"tokenize.validation_fraction": "data.held_out_split says what is held out"}


def of_training(model: Model, train: Train) -> dict[str, str]:
    """Those of the sections model and train."""
    found = {}
    sites = model.dropout_sites.model_dump()
    if None not in sites.values():
        found["model.dropout"] = "all of model.dropout_sites are set"
    rates = {site: model.dropout if rate is None else rate for site, rate in sites.items()}
    if not rates["attention"]:
        found["model.attention_dropout"] = "the attention weights' rate of dropout is 0"
    if not any([*rates.values(), model.block_dropout]):
        nothing = "all rates of dropout are 0"
        found |= dict.fromkeys(["train.dropout_schedule", "train.dropout_switch_step"], nothing)
    elif train.dropout_schedule not in ("early", "late"):
        found["train.dropout_switch_step"] = f"train.dropout_schedule is {train.dropout_schedule}"
    if train.lr_schedule == "constant":
        found["train.final_learning_rate"] = "train.lr_schedule is constant"
    return found


def lines(found: dict[str, str], **sections: Section) -> list[str]:
    """What to tell of these sections: the keys that are set to something, and to no effect."""
    values = dotted({name: section.model_dump() for name, section in sections.items()})
    return [
        f"{key} is {values[key]!r}, without effect on model and held-out loss: {why}"
        for key, why in found.items()
        if key in USUAL and values[key] not in (USUAL[key], None)
    ]
