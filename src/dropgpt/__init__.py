"""What dropout does in GPT pretraining. `load` a model, and let it `write`:

```python
import dropgpt

print(dropgpt.write(dropgpt.load("models/gpt"), "Once upon a time"))
```

Both are in `dropgpt.writing`. The other rooms, each of which uses only those above it:

- `dropgpt.errors`, `dropgpt.params`, `dropgpt.randomness`: what all stand on
- `dropgpt.machine`: files, hardware, interruption, processes, progress, provenance
- `dropgpt.corpus`: documents, from the Hugging Face hub, Wikipedia or your own files
- `dropgpt.tokens`: vocabulary, token tensor, batches, what is held out
- `dropgpt.comparison`: what experiments have found, and whether they differ
- `dropgpt.model`: the GPT (`dropgpt.model.gpt`), its dropout (`dropgpt.model.dropout`), its loss
- `dropgpt.evaluation`, `dropgpt.perplexity`, `dropgpt.yardsticks`: held-out loss, perplexity with
  its interval, and what counting reaches
- `dropgpt.generation`: temperature sampling
- `dropgpt.training`: the loop (`dropgpt.training.loop`), its step, optimizers, checkpoints
- `dropgpt.measuring`: other people's models, for `dropgpt measure`
- `dropgpt.reporting`, `dropgpt.commands`, `dropgpt.arguments`: the page of `dropgpt report`, and
  the command itself
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropgpt.writing import load as load
    from dropgpt.writing import write as write


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: torch takes seconds, and no stage needs this."""
    if name in __dir__():
        return getattr(import_module("dropgpt.writing"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["load", "write"]
