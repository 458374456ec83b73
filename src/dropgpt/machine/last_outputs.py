"""What a stage has last put out, which DVC clears away before it runs the stage.

The stages run without DVC, too, and it takes a second to import.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any


def restore(stage: str) -> None:
    """Bring back what a stage has last put out, as the cache or git has it.

    `stage` is its address, as DVC sets it in DVC_STAGE. What neither has, as in a fresh clone, was
    never here or cannot be had. Raises what refused one of them, when the others are back.
    """
    from dvc.repo import Repo

    pipeline, _, name = stage.rpartition(":")
    # By its path from where DVC was called. A stage of the project runs beside its dvc.yaml.
    file = pipeline if pipeline and Path(pipeline).exists() else "dvc.yaml"
    refused = []
    with Repo() as repo:
        for output in repo.stage.load_one(file, name=name).outs:
            try:
                of_git = not output.use_cache  # a metric or a plot
                if output.hash_info and not (of_git and _restored_from_git(output)):
                    _restore(output)
            except Exception as error:
                refused.append(error)
    if refused:
        raise refused[0]


def _restored_from_git(output: Any) -> bool:
    """Bring back what the last commit has as it is in dvc.lock; whether it has.

    In the cache these are only where they were made here, and not collected since.
    """
    with suppress(Exception):  # no git, no commit, not in it
        file = Path(output.fs_path)
        content: bytes = (
            output.repo.scm.get_fs("HEAD")
            .open(file.relative_to(output.repo.scm.root_dir).as_posix(), "rb")
            .read()
        )
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == output.hash_info.value:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            return True
    return False


def _restore(output: Any) -> None:
    of_git = not output.use_cache
    output.use_cache = True  # the run-cache keeps metrics and plots in the cache, too
    if not output.cache.exists(output.hash_info.value):
        return
    _checkout(output)
    if of_git:
        output.unprotect()  # what git holds must be no link into the cache


def _checkout(output: Any) -> None:
    try:
        output.checkout(force=True, allow_missing=True)
    except Exception:
        # What refused the stage's writing refuses a copy, too, but not a link. DVC makes a file of
        # its own of it where it is written next.
        output.cache.cache_types = ["hardlink", "symlink"]
        try:
            output.checkout(force=True, allow_missing=True)
        except Exception:
            output.remove()  # rather none than a part
            raise
