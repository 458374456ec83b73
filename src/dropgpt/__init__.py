"""What dropout does in GPT pretraining. `load` a model, and let it `write`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropgpt.writing import load, write

__all__ = ["load", "write"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: torch takes seconds, and no stage needs this."""
    if name in __all__:
        return getattr(import_module("dropgpt.writing"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
