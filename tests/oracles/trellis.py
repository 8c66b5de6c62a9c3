"""Trellises in plain loops: every sequence tried, Viterbi's algorithm and log-MAP one symbol after another."""

from __future__ import annotations

from itertools import product

import numpy as np


def sent(
    taps: np.ndarray, symbols: np.ndarray, before: np.ndarray | None = None, after: np.ndarray | None = None
) -> np.ndarray:
    """What arrives of symbols behind taps (P, L), between symbols before (L - 1 of them) and after: (P, N)."""
    memory = taps.shape[1] - 1
    head = np.zeros(memory) if before is None else np.asarray(before)
    tail = np.zeros(0) if after is None else np.asarray(after)
    whole = np.concatenate([head, symbols, tail])
    made = np.zeros((len(taps), len(symbols) + len(tail)), np.result_type(taps, whole))
    for p in range(len(taps)):
        for t in range(made.shape[1]):
            for k in range(memory + 1):
                made[p, t] += taps[p, k] * whole[t - k + memory]
    return made


def every_cost(y: np.ndarray, taps: np.ndarray, points: np.ndarray, before: str, after: str) -> dict[tuple[int, ...], float]:
    """The cost of every sequence; of those before that are unknown, the best choice."""
    memory = taps.shape[1] - 1
    count = y.shape[1] - (memory if after == "silence" else 0)
    tail = np.zeros(memory) if after == "silence" else None
    found: dict[tuple[int, ...], float] = {}
    for chosen in product(range(len(points)), repeat=count):
        heads = [None] if before == "silence" else [points[list(h)] for h in product(range(len(points)), repeat=memory)]
        costs = [np.sum(np.abs(y - sent(taps, points[list(chosen)], head, tail)) ** 2) for head in heads]
        found[chosen] = float(min(costs))
    return found


def every_posterior(y: np.ndarray, taps: np.ndarray, points: np.ndarray, variance: float, before: str, after: str, log_prior):
    """Log posteriors (n, M), by every sequence: exp(-cost / variance), times the priors (n, M)."""
    memory = taps.shape[1] - 1
    count = y.shape[1] - (memory if after == "silence" else 0)
    tail = np.zeros(memory) if after == "silence" else None
    sums = np.full((count, len(points)), -np.inf)
    heads = [None] if before == "silence" else [points[list(h)] for h in product(range(len(points)), repeat=memory)]
    for chosen in product(range(len(points)), repeat=count):
        for head in heads:
            cost = np.sum(np.abs(y - sent(taps, points[list(chosen)], head, tail)) ** 2)
            weight = -cost / variance + sum(log_prior[i, a] for i, a in enumerate(chosen))
            for i, a in enumerate(chosen):
                sums[i, a] = np.logaddexp(sums[i, a], weight)
    return sums - np.logaddexp.reduce(sums, 1)[:, None]


def _branches(taps: np.ndarray, points: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """States (digits, the newest first) and what each branch sends: (states, M, P)."""
    states = list(product(range(len(points)), repeat=taps.shape[1] - 1))
    made = np.array([[taps @ points[[a, *state]] for a in range(len(points))] for state in states])
    return states, made


def viterbi(y: np.ndarray, taps: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """(indices, cost), with unknown symbols before and after, one symbol after another."""
    states, made = _branches(taps, points)
    number = {state: i for i, state in enumerate(states)}
    costs, decisions = np.zeros(len(states)), []
    for t in range(y.shape[1]):
        best, came = np.full(len(states), np.inf), [None] * len(states)
        for i, state in enumerate(states):
            for a in range(len(points)):
                cost = costs[i] + np.sum(np.abs(y[:, t] - made[i, a]) ** 2)
                to = number[(a, *state)[: len(state)]]
                if cost < best[to]:
                    best[to], came[to] = cost, (i, a)
        costs = best
        decisions.append(came)
    at, found = int(costs.argmin()), []
    for came in reversed(decisions):
        at, a = came[at]
        found.append(a)
    return np.array(found[::-1]), float(costs.min())


def log_map(y: np.ndarray, taps: np.ndarray, points: np.ndarray, variance: float) -> np.ndarray:
    """Log posteriors (n, M), with unknown symbols before and after, forward and backward once."""
    states, made = _branches(taps, points)
    number = {state: i for i, state in enumerate(states)}
    n, size = y.shape[1], len(points)
    to = np.array([[number[(a, *state)[: len(state)]] for a in range(size)] for state in states])
    gamma = [-np.sum(np.abs(y[:, t] - made) ** 2, -1) / variance for t in range(n)]
    alpha, beta = np.zeros((n + 1, len(states))), np.zeros((n + 1, len(states)))
    for t in range(n):
        alpha[t + 1] = -np.inf
        for i in range(len(states)):
            for a in range(size):
                alpha[t + 1, to[i, a]] = np.logaddexp(alpha[t + 1, to[i, a]], alpha[t, i] + gamma[t][i, a])
    found = np.full((n, size), -np.inf)
    for t in range(n - 1, -1, -1):
        for i in range(len(states)):
            through = gamma[t][i] + beta[t + 1, to[i]]
            beta[t, i] = np.logaddexp.reduce(through)
            found[t] = np.logaddexp(found[t], alpha[t, i] + through)
    return found - np.logaddexp.reduce(found, 1)[:, None]
