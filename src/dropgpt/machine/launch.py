"""Several processes on this machine, started by torchrun.

It watches them, and where one fails starts all of them again.
"""

import logging
import os
import socket
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

import torch

from dropgpt.errors import UserError
from dropgpt.machine import slot, threads
from dropgpt.machine.hardware import prepare
from dropgpt.params import Runtime

STARTS_AGAIN = 3  # times at most, where a process has failed


def launch(module: str, runtime: Runtime) -> None:
    """Run `module` in `runtime.processes` processes; they say themselves what goes wrong.

    What torchrun reads from PET_NNODES, PET_RDZV_ENDPOINT and so on holds here, too: so machines
    work together on which the same is launched. Raises UserError where there are fewer GPUs, where
    this machine does not know its address, or where the machines do not find each other, and
    SystemExit where the processes do not succeed.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    _check_address()
    number = runtime.processes
    device = prepare(
        runtime.device, runtime.threads and min(threads.CORES, runtime.threads * number)
    )
    devices = [device]
    if device.type == "cuda":
        if number > torch.cuda.device_count():
            raise UserError(
                f"params.yaml: runtime.processes is {number}, and torch finds "
                f"{torch.cuda.device_count()} GPUs"
            )
        if number > 1:
            devices = [torch.device("cuda", index) for index in range(number)]
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes say it better
    if os.environ.get("TORCH_CPP_LOG_LEVEL") == "FATAL":  # set by stages, for this process alone
        del os.environ["TORCH_CPP_LOG_LEVEL"]
    # Else those that are started again find the addresses of the dead
    # (github.com/pytorch/pytorch/issues/135712).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, threads.CORES // number)))
    place = [] if "PET_RDZV_ENDPOINT" in os.environ else ["--standalone"]
    options = ["--nproc-per-node", str(number), "--max-restarts", str(STARTS_AGAIN)]
    with ExitStack() as turns:
        for one in sorted(devices, key=slot.name):  # so that no two jobs wait for each other
            turns.enter_context(slot.slot(one))
        try:
            run.run(run.parse_args([*place, *options, "-m", module]))
        except (ChildFailedError, SignalException):
            sys.exit(1)
        except RendezvousError as error:
            why = str(error.__cause__ or error).split("\n")[0].rstrip(".")
            raise UserError(
                f"the machines do not find each other at {os.environ.get('PET_RDZV_ENDPOINT')} "
                f"({why}): start the same on all of them again, and it goes on from the last "
                "checkpoint"
            ) from None


def _check_address() -> None:
    """Raise UserError where other machines would look for this one at their own loopback.

    gloo gives them the address of this machine's name, which on Debian is 127.0.1.1.
    """
    place = urlsplit(f"//{os.environ.get('PET_RDZV_ENDPOINT', 'localhost')}").hostname
    alone = os.environ.get("PET_NNODES", "1").rpartition(":")[2] == "1"
    if alone or "GLOO_SOCKET_IFNAME" in os.environ or place in ("localhost", "127.0.0.1", "::1"):
        return
    name, address = socket.gethostname(), "no address"
    with suppress(OSError):
        address = str(socket.getaddrinfo(name, None)[0][4][0])
    if address == "no address" or ip_address(address).is_loopback:
        raise UserError(
            f"other machines cannot find this one: its name, {name}, has {address} here; set "
            "GLOO_SOCKET_IFNAME to the network interface by which they reach it (`ip address` "
            "lists them), or mend /etc/hosts"
        )
