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
PLACES = ("PET_RDZV_ENDPOINT", "PET_MASTER_ADDR")  # torchrun's settings of where machines meet
LEAVING = 300  # seconds in which those that are asked to leave end their step and save


def launch(module: str, runtime: Runtime) -> None:
    """Run `module` in `runtime.processes` processes; they say themselves what goes wrong.

    What torchrun reads from PET_NNODES, PET_RDZV_ENDPOINT and so on holds here, too: so machines
    work together on which the same is launched. Raises UserError where there are fewer GPUs, where
    they name no place to meet, where this machine does not know its address, or where the machines
    do not find each other, and SystemExit where the processes do not succeed.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    number = runtime.processes
    place = _place(number)
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
    options = ["--nproc-per-node", str(number), "--max-restarts", str(STARTS_AGAIN)]
    options += ["--shutdown-timeout", str(LEAVING)]
    with ExitStack() as turns:
        for one in sorted(devices, key=slot.name):  # so that no two jobs wait for each other
            turns.enter_context(slot.slot(one))
        try:
            run.run(run.parse_args([*place, *options, "-m", module]))
        except (ChildFailedError, SignalException):
            sys.exit(1)
        except RendezvousError as error:
            why = str(error.__cause__ or error).split("\n")[0].rstrip(".")
            where = next((os.environ[name] for name in PLACES if name in os.environ), "localhost")
            raise UserError(
                f"the machines do not find each other at {where}"
                f"{f' ({why})' if why else ''}: start the same on all of them again, and it goes "
                "on from the last checkpoint"
            ) from None


def _place(processes: int) -> list[str]:
    """torchrun's option for where the processes meet: none where its own settings say it.

    Raises UserError where those would leave each machine alone, or would not be followed.
    """
    told = os.environ.get("PET_NPROC_PER_NODE", str(processes))
    if told != str(processes):
        raise UserError(
            f"PET_NPROC_PER_NODE is {told}, and runtime.processes of params.yaml is {processes}, "
            "which says how many processes there are on each machine: unset the first"
        )
    alone = os.environ.get("PET_NNODES", "1").rpartition(":")[2] == "1"
    named = [name for name in PLACES if name in os.environ]
    if not (alone or named):
        raise UserError(
            f"PET_NNODES is {os.environ['PET_NNODES']}, and PET_RDZV_ENDPOINT, the place where the "
            "machines meet, is not set: HOST:29400, say, where HOST is one of them"
        )
    if not alone:
        _check_address(os.environ[named[0]])
    return [] if named else ["--standalone"]


def _check_address(place: str) -> None:
    """Raise UserError where other machines would look for this one at their own loopback.

    gloo gives them the address of this machine's name, which on Debian is 127.0.1.1.
    """
    host = urlsplit(f"//{place}").hostname
    if "GLOO_SOCKET_IFNAME" in os.environ or host in ("localhost", "127.0.0.1", "::1"):
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
