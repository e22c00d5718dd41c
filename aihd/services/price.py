"""Asks nodo from time to time what a run of each service costs and what our client id has: no task is taken at a loss, or in vain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import structlog

from aihd.core.policy import AMPLE_RUNS, Credit
from aihd.errors import AihdError, DependencyError, one_line
from aihd.execution.template import resources_of
from aihd.nodo.database import is_unmetered
from aihd.nodo.failures import Quarantined, Refused, UnknownClient
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.pricing import Estimate, Rate, settled
from aihd.services.engine import Engine, Service

log = structlog.get_logger()

EVERY: Final = 600.0  # seconds: nodo's prices move with the load of the machine
BALANCE_EVERY: Final = 30.0  # seconds: our credit moves with every run
CREDIT: Final = "credit"  # where the status shows that nodo does not trust our client id


class Price(Service):
    """Estimate times rate, for the duration that a run is expected to take; and whether our balance is good for it."""

    name = "price"
    commands = frozenset()

    def __init__(
        self,
        engine: Engine,
        gateway: GatewayClient,
        client_id: str,
        rate: Rate | None,
        *,
        database: Path | None = None,
        allows_debt: bool = False,
    ) -> None:
        """`rate`: what nodo's configuration or our operator says, None if neither does. `database`: nodo's own, which names clients that
        are charged nothing. `allows_debt`: whether nodo lets a client owe it.
        """
        super().__init__(engine)
        self._gateway = gateway
        self._client_id = client_id
        self._rate = rate
        self._database = database
        self._allows_debt = allows_debt
        self._estimates: dict[bytes, Estimate] = {}
        self._due = self._balance_due = 0.0

    async def step(self) -> None:
        offered, now = self.engine.policy.services.keys(), time.monotonic()
        known = offered <= self._estimates.keys()
        if now >= self._due or not known:
            await self._ask_costs()
            self._due = time.monotonic() + EVERY
        if now >= self._balance_due or not known:
            await self._ask_balance()
            self._balance_due = time.monotonic() + BALANCE_EVERY

    async def _ask_costs(self) -> None:
        """The estimate of every service that has one; the first error afterwards, so that one service without hides no other."""
        troubles: list[AihdError] = []
        for service_hash in self.engine.policy.services:
            template = self.engine.services[service_hash].template
            try:
                self._estimates[service_hash] = await self._gateway.estimated_cost(
                    service_hash, client_id=self._client_id, resources=resources_of(template)
                )
            except (Quarantined, UnknownClient):
                raise
            except AihdError as error:
                troubles.append(error)
        if self.engine.counts_cost:
            await self._count_costs()
        if troubles:
            raise troubles[0]

    async def _count_costs(self) -> None:
        engine, rate = self.engine, await self._current_rate()
        for service_hash in engine.policy.services.keys() & self._estimates.keys():
            seconds = engine.services[service_hash].expected_duration
            cost = rate.nanoerg(self._estimates[service_hash].of_run(seconds))
            if cost != engine.costs.get(service_hash):
                engine.costs[service_hash] = cost
                log.info("cost", service=service_hash.hex(), nanoerg=cost, seconds=seconds)

    async def _current_rate(self) -> Rate:
        try:
            return settled(await self._gateway.declared_rate(self._client_id), self._rate)
        except (Quarantined, UnknownClient):
            raise
        except Refused as error:
            if self._rate is not None:
                return self._rate
            profile = await self._gateway.profile()
            raise DependencyError(
                f"what {profile.unit} of nodo costs in ERG is not known ({one_line(error)}), so no price can be counted: set nodo.folder,"
                f" nodo.units_per_erg, or policy.count_nodo_cost = false"
            ) from error

    async def _ask_balance(self) -> None:
        """What our client id has, held against what each run takes of it at its start."""
        if await self._charged_nothing():
            self.engine.credit.clear()
            self.engine.health.pop(CREDIT, None)
            return
        balance, profile = await self._gateway.get_metrics(self._client_id), await self._gateway.profile()
        most = max((estimate.start for estimate in self._estimates.values()), default=0)
        cure = profile.trust.format(client=self._client_id, amount=AMPLE_RUNS * most)
        for service_hash, estimate in self._estimates.items():
            start = estimate.start
            self.engine.credit[service_hash] = Credit(balance=balance, start=start, unit=profile.unit, cure=cure)
        self._tell()

    async def _charged_nothing(self) -> bool:
        return self._allows_debt or (self._database is not None and is_unmetered(self._database, self._client_id))

    def _tell(self) -> None:
        """Show in the status what would keep every new task from being claimed."""
        offered = self.engine.policy.services.keys()
        objections = [credit.objection() for key, credit in self.engine.credit.items() if key in offered]
        objection = next((text for text in objections if text), None)
        if objection is None:
            self.engine.health.pop(CREDIT, None)
            return
        if self.engine.health.get(CREDIT) != objection:
            log.warning("no credit", reason=objection)
        self.engine.health[CREDIT] = objection
