"""Asks nodo from time to time what a run of each offered service costs, so that no task is taken at a loss."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import Final

import structlog

from aihd.nodo.failures import Refused
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.pricing import to_nanoerg
from aihd.services.engine import Engine, Service

log = structlog.get_logger()

EVERY: Final = 600.0  # seconds: nodo's prices move with the load of the machine


class Price(Service):
    """Estimate times declared rate, for the duration that a run is expected to take."""

    name = "price"
    commands = frozenset()

    def __init__(self, engine: Engine, gateway: GatewayClient, client_id: str, rate: Fraction) -> None:
        """`rate`: units per nanoERG where the node declares none."""
        super().__init__(engine)
        self._gateway = gateway
        self._client_id = client_id
        self._rate = rate
        self._due = 0.0

    async def step(self) -> None:
        offered = self.engine.policy.services.keys()
        if time.monotonic() < self._due and offered <= self.engine.costs.keys():
            return
        rate = await self._declared()
        for service_hash in offered:
            seconds = self.engine.services[service_hash].expected_duration
            estimate = await self._gateway.estimated_cost(service_hash, client_id=self._client_id)
            cost = to_nanoerg(estimate.of_run(seconds), rate)
            if cost != self.engine.costs.get(service_hash):
                self.engine.costs[service_hash] = cost
                log.info("cost", service=service_hash.hex(), nanoerg=cost, seconds=seconds)
        self._due = time.monotonic() + EVERY

    async def _declared(self) -> Fraction:
        try:
            return await self._gateway.mu_per_nanoerg(self._client_id)
        except Refused:
            return self._rate
