"""What took long to find, kept by a checksum of all that it depends on.

It only spares the work: with what is kept, with nothing, and with damage the same is found.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from dropgpt.machine.files import replacing, sha256

# DVC keeps experiments apart from each other; what is kept is to outlive the folder of one.
CHECKPOINTS = Path(os.environ.get("DVC_ROOT", ".")) / "checkpoints"
FOLDER = CHECKPOINTS / "measured"
NEWEST = 100  # tables that stay
DIGEST = hashlib.sha256().digest_size
PACKAGE = Path(__file__).parent.parent


def table(depends_on: dict[str, Any], find: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What `find` gives; kept, where it was found before by the same code for `depends_on`.

    `depends_on`, which JSON can hold, must name everything that may change a bit of it.
    """
    named = json.dumps(depends_on | {"code": _code()}, sort_keys=True)
    file = FOLDER / hashlib.sha256(named.encode()).hexdigest()
    with suppress(OSError):
        content = file.read_bytes()
        if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            os.utime(file)  # what is in use is not old
            return pd.read_parquet(BytesIO(content[DIGEST:]))
    found = find()
    content = found.to_parquet(index=False)
    with suppress(OSError):  # a full disk, say: then it is found again the next time
        with replacing(file) as partial:
            partial.write_bytes(hashlib.sha256(content).digest() + content)
        by_date = sorted(FOLDER.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_date[:-NEWEST]:
            old.unlink(missing_ok=True)
    return found


def _code() -> str:
    """A checksum of all code of this package."""
    files = sorted(PACKAGE.rglob("*.py"))
    sums = [(file.relative_to(PACKAGE).as_posix(), sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()
