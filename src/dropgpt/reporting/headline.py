"""The first table of the page: each run, and what counting alone reaches."""

from typing import Any

from dropgpt.comparison.comparable import why_not
from dropgpt.perplexity import in_words, number_in_words
from dropgpt.reporting.results import YARDSTICKS, Result


def headline(results: list[Result]) -> dict[str, Any]:
    """The numbers first asked for, of each run and of what counting alone reaches."""
    rows = []
    for result in results:
        found = result.run.summary
        perplexity, interval = in_words(found)
        rows.append(
            {
                "name": result.name,
                "bits": f"{found['bits_per_byte']:.3f}",
                "perplexity": perplexity,
                "interval": interval,
                "loss": f"{found['loss']:.3f}",
                "on": f"{found['loss_dropout_on']:.3f}",
            }
        )
    alike = not any(why_not(results[0].run, other.run) for other in results[1:])
    return {
        "runs": rows,
        "yardsticks": _yardsticks(results),
        "on": "On the same held-out tokens" if alike else "Each on its own held-out tokens",
    }


def _yardsticks(results: list[Result]) -> list[dict[str, str]]:
    """What counting alone reaches; what is not the same for all runs, by the names of its runs."""
    reached: dict[tuple[Any, ...], list[str]] = {}
    for yardstick in YARDSTICKS:
        for result in results:
            found = result.run.summary
            numbers = (
                found[f"{yardstick}_{key}"] for key in ("bits_per_byte", "perplexity", "loss")
            )
            reached.setdefault((yardstick, *numbers), []).append(result.name)
    rows = []
    for (yardstick, bits, perplexity, loss), names in reached.items():
        of = "" if len(names) == len(results) else f" ({', '.join(names)})"
        # In the vocabulary of a model from elsewhere nobody has counted: bits per byte alone.
        per_token = loss is not None
        rows.append(
            {
                "name": yardstick + of,
                "bits": f"{bits:.3f}",
                "perplexity": number_in_words(perplexity) if per_token else "",
                "interval": "",
                "loss": f"{loss:.3f}" if per_token else "",
                "on": "",
            }
        )
    return rows
