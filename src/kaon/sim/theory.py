"""Results of queueing theory with which the simulator must agree."""

from __future__ import annotations


def erlang_c(servers: int, load: float) -> float:
    """The share of calls that wait in M/M/c, at `load` = arrival rate x service time (Erlang, 1917)."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    busy = load / servers
    return blocked / (1 - busy * (1 - blocked))


def mmc_response_s(servers: int, rate: float, service_s: float) -> float:
    """The mean time in M/M/c, waiting and service, seconds."""
    load = rate * service_s
    return service_s + erlang_c(servers, load) * service_s / (servers - load)


def inoue_bound_s(rate: float, a: float, b: float) -> float:
    """An upper bound of the mean time in a greedy batching server, seconds; close from rate x a = 0.3 on.

    Inoue, "Queueing analysis of GPU-based inference servers with dynamic batching", Performance Evaluation, 2021.
    """
    x = rate * a
    return 1.5 * b / (1 - x) + (a / 2) * (x + 2) / (1 - x * x)
