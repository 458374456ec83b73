"""The dropout that a model was trained with, in words."""

from typing import Any

from dropgpt.params import DropoutSites


def in_words(model: dict[str, Any], train: dict[str, Any]) -> str:
    """Its rates, what they are of, and when; `model` and `train` are sections of the parameters."""
    own = model["dropout_sites"]
    rates = {
        site: model["dropout"] if own.get(site) is None else own[site]
        for site in DropoutSites.model_fields
    }
    if len({*rates.values()}) == 1:
        said = str(rates["embedding"])
    else:
        said = ", ".join(f"{rate} ({site})" for site, rate in rates.items())
    if model.get("attention_dropout", "weights") != "weights":
        said += f", of {model['attention_dropout']} in attention"
    if block := model.get("block_dropout"):
        said += f", {block} of whole blocks"
    if (schedule := train["dropout_schedule"]) != "constant":
        said += f", by the schedule `{schedule}`"
    return said
