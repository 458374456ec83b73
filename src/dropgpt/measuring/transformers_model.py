"""Any causal language model that transformers opens, from a folder or from the hub."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dropgpt.corpus.document import Document
from dropgpt.errors import UserError, check_here
from dropgpt.machine import threads
from dropgpt.machine.memory import out_of_memory
from dropgpt.measuring.language_model import Encoded, LanguageModel

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LONGEST = 1024  # tokens of a window where nobody says how many: some models read a book at once
INSTALL = "`pip install 'transformers>=5.23,<6'` brings it (the extra `measure`)"
# Of transformers: where nobody says so, it asks whether code that comes with a model may run.
OWN_CODE: dict[str, Any] = {"trust_remote_code": False}
PIECES = ("tokenizer.model", "spiece.model")  # of sentencepiece
# Rotary positions that transformers chooses by the width of a batch (Phi-3 from 3.5 on).
BY_LENGTH = re.compile(r"'(rope_)?type': '(longrope|dynamic)'")
# How little may change before a token: shares of what changes at it, and of the largest logit.
SEEN, ROUNDING = 1e-4, 1e-5
# What a token may see, which old files have among the weights.
MASK = re.compile(r"(^|\.)(attn|attention)\.((masked_)?bias|causal_mask)$")


def read(name: str, device: torch.device, revision: str | None = None) -> LanguageModel:
    """The model in the folder, or of the hub's id, `name`, with its own tokenizer.

    `revision` is a branch, a tag or a commit on the hub; None: what is there now.
    Raises UserError where transformers cannot open it, and where its losses would mean nothing.
    """
    if not find_spec("transformers"):
        raise UserError(f"{name}: transformers opens such a model, and is not installed: {INSTALL}")
    _one_at_a_time()
    model, tokenizer, commit = _opened(name, revision)
    config = model.config.get_text_config()
    n_ctx = _n_ctx(model, config)
    _check_causal(name, model.to(device), config.vocab_size, n_ctx)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    begin = end if begin is None else begin
    if begin is None:
        raise UserError(
            f"{name}: its tokenizer has no token that begins or ends a document (bos_token, "
            "eos_token): none can begin. Name those that the model knows in the model's "
            "tokenizer_config.json"
        )
    n_vocab = model.get_input_embeddings().num_embeddings

    def check_known(ids: list[int]) -> None:
        if ids and max(ids) >= n_vocab:
            raise UserError(
                f"{name}: its tokenizer has more tokens than the model, {n_vocab}: "
                f"{tokenizer.convert_ids_to_tokens(max(ids))!r} is number {max(ids)}"
            )

    check_known([begin])

    def nats(rows: Tensor, measured: Tensor, targets: Tensor) -> Tensor:
        if begin != end:
            rows[:, 0] = begin  # a model that has a BOS may need it wherever a window begins
        with _told(f"{name}: transformers cannot run it"):
            logits = model(rows.to(device), use_cache=False).logits[measured.to(device)]
        return F.cross_entropy(logits, targets.to(device), reduction="none")

    def nats_by_length(rows: Tensor, measured: Tensor, targets: Tensor) -> Tensor:
        """The same of a model whose positions depend on how long the longest window is."""
        lengths = measured.shape[1] - measured.flip(1).int().argmax(1)
        of_row = measured.nonzero()[:, 0]  # that of each target
        found = torch.empty(len(targets), device=device)
        for length in lengths.unique().tolist():
            alike = lengths == length
            each = alike[of_row]
            found[each] = nats(rows[alike, :length], measured[alike, :length], targets[each])
        return found

    def encode(documents: Iterable[Document], end_of_text: bool) -> Encoded:
        if end_of_text and end is None:
            raise UserError(
                f"{name}: its tokenizer has no token that ends a document (eos_token): "
                "--no-end-of-text leaves the end out"
            )
        for document in documents:
            # split_special_tokens: "</s>" that stands in a text is text.
            ids = tokenizer.encode(
                document.text, add_special_tokens=False, split_special_tokens=True, verbose=False
            )
            ids += [end] * end_of_text
            check_known(ids)
            yield document, np.array(ids, dtype=np.int64)

    known = {"model": name, "weights": _checksum(model)[:8]}
    if commit:
        known["revision"] = commit
    return LanguageModel(
        nats=nats_by_length if BY_LENGTH.search(str(config.to_dict())) else nats,
        n_ctx=n_ctx,
        longest=min(n_ctx or LONGEST, LONGEST),
        begin=(begin, tokenizer.convert_ids_to_tokens(begin)),
        encode=encode,
        decode=lambda ids: tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ),
        tokenizer=f"{type(tokenizer).__name__} of {name}",
        n_vocab=n_vocab,
        made_by=known,
        whole_logits=True,
        packages=("torch", "transformers", "tokenizers"),
    )


def _opened(name: str, revision: str | None) -> tuple[Any, Any, str | None]:
    """The model, in eval mode in float32, its tokenizer, and on the hub the commit of both."""
    import transformers

    if not Path(name).is_dir() and not HUB_ID.fullmatch(name):
        raise UserError(f"{name}: neither a folder nor a file nor a name on the hub")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = "no such folder, and not to be had from the hub: "
    if (folder := Path(name)).is_dir():
        where = ""
        for file in filter(Path.is_file, sorted(folder.iterdir())):
            check_here(file)
    with _told(f"{name}: {where}transformers cannot open it"):
        commit = _commit(name, revision)
        which: dict[str, Any] = {"revision": commit or revision or "main"}
        adapter = _file(name, "adapter_config.json", which)
    if adapter:  # transformers would open the model without it where peft is not installed
        raise UserError(
            f"{name} has an adapter (adapter_config.json): measure the model with it merged, as "
            "`merge_and_unload().save_pretrained(FOLDER)` of peft writes it"
        )
    with _told(f"{name}: {where}transformers cannot open it"):
        both: Any = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
            **OWN_CODE,
            **which,
        )
        model, loading = both
        tokenizer = _tokenizer(name, which)
    if missing := sorted({*loading["missing_keys"], *(m[0] for m in loading["mismatched_keys"])}):
        raise UserError(
            f"{name}: it has no {missing[0]} as a {type(model).__name__} needs it: "
            f"transformers would draw {len(missing)} tensors at random"
        )
    if unexpected := sorted(key for key in loading["unexpected_keys"] if not MASK.search(key)):
        raise UserError(
            f"{name}: {unexpected[0]} is no part of a {type(model).__name__} as config.json has "
            f"it: transformers would leave out {len(unexpected)} tensors"
        )
    others = {str(p.dtype) for p in model.parameters()} - {"torch.float32"}
    if others:
        raise UserError(f"{name}: its weights stay {', '.join(others)}: it cannot be measured")
    return model.eval(), tokenizer, commit


def _commit(name: str, revision: str | None) -> str | None:
    """That of the hub's revision, so that model and tokenizer are of one; None of a folder."""
    from transformers.utils.hub import extract_commit_hash

    config = _file(name, "config.json", {"revision": revision or "main"})
    return extract_commit_hash(config, None)


def _file(name: str, file: str, which: dict[str, Any]) -> str | None:
    """The path of a file of the model, in its folder or from the hub; None where it has none."""
    from transformers.utils.hub import cached_file

    found: str | None = cached_file(
        name, file, **which, _raise_exceptions_for_missing_entries=False
    )
    return found


def _tokenizer(name: str, which: dict[str, Any]) -> Any:
    """As its tokenizer.json has it, where there is one.

    The classes of AutoTokenizer read no more than the vocabulary from that file, and build anew how
    a text is cut: not always as the model was trained (huggingface/transformers#45488). But they
    know the tokens at the ends, where no file names them, as with GPT-2.
    """
    import transformers

    has_json = _file(name, "tokenizer.json", which)
    alone = [file for file in PIECES if not has_json and _file(name, file, which)]
    if alone and not find_spec("sentencepiece"):
        raise UserError(f"its {alone[0]} takes sentencepiece: `pip install sentencepiece`")
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **OWN_CODE, **which)
    if not has_json:
        return tokenizer
    ends = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    return transformers.PreTrainedTokenizerFast.from_pretrained(name, **ends, **which)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Raise UserError with `what` where the block raises anything, as by what a file holds."""
    try:
        yield
    except Exception as error:
        if out_of_memory(error):
            raise
        # Whole, since what is wrong may stand in any of its lines.
        said = " ".join(str(error).split()) or type(error).__name__
        if "weights_only" in said:  # torch's words advise to open it unsafely
            said = "a file of its weights holds more than tensors, or is damaged"
        raise UserError(f"{what}: {shorten(said, 300)}") from None


def _n_ctx(model: nn.Module, config: Any) -> int | None:
    """Of how many tokens a window may be, where the model says so."""
    stated = (getattr(config, key, None) for key in ("max_position_embeddings", "max_seq_len"))
    # The second is MPT's; XLNet says -1.
    n_ctx: int | None = next((n for n in stated if n and n > 0), None)
    of_tokens = model.get_input_embeddings()  # type: ignore[operator]
    for module in model.modules():  # RoBERTa counts its positions from behind that of padding on
        if module is of_tokens or not isinstance(module, nn.Embedding):
            continue
        if module.num_embeddings == n_ctx:
            return n_ctx - 1 - (-1 if module.padding_idx is None else module.padding_idx)
    return n_ctx


def _check_causal(name: str, model: nn.Module, n_vocab: int, n_ctx: int | None) -> None:
    """Raise UserError where a token's prediction sees what follows: it might see the token."""
    rows = torch.arange(min(n_ctx or 8, 8)).repeat(2, 1) % n_vocab
    rows[1, -1] = (rows[1, -1] + 1) % n_vocab
    with torch.no_grad(), _told(f"{name}: transformers cannot run it"):
        logits = model(rows.to(next(model.parameters()).device), use_cache=False).logits
    if not logits.isfinite().all():
        raise UserError(f"{name}: its logits are not finite: its weights are damaged or overflow")
    moved = (logits[0] - logits[1]).abs().amax(-1)
    # Beside what the token changes where it may; untrained weights change little anywhere.
    if (moved[:-1] > max(SEEN * moved[-1], ROUNDING * logits.abs().max())).any():
        raise UserError(f"{name}: it sees the tokens that it should predict: it is not causal")


def _checksum(model: nn.Module) -> str:
    """sha256 of the names and values of all weights, however many files hold them."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _one_at_a_time() -> None:
    """Let torch share out each operation, not this project its batches.

    Some models of transformers change themselves by the length of what they read. And some have
    no deterministic kernel on a GPU.
    """
    threads.set_number(1)
    torch.set_num_threads(threads.CORES)
    torch.set_deterministic_debug_mode("default")
