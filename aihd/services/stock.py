"""Keeps what we offer in step with nodo's registry and with the operator's rules while the daemon runs.

A service that nodo holds no more is offered no more, and is again once it is back, under its new hash if it has one. On HUP the
configuration is read again: the rules of policy and the list of services are taken from it, all else needs a restart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import structlog

from aihd.config import Settings
from aihd.config_values import SECONDS_PER_BLOCK
from aihd.core import policy
from aihd.errors import AihdError, ConfigError, DependencyError, one_line
from aihd.execution.template import Template
from aihd.nodo.registry import LocalService, Registry
from aihd.services.engine import Engine, Offered, Service

log = structlog.get_logger()

RELOAD = "reload"  # where the status shows a configuration that was not taken


@dataclass(frozen=True, slots=True)
class Goods:
    """What can be offered now, the rules it is offered by, and a sentence for each configured service that cannot be."""

    offered: dict[bytes, Offered]
    rules: policy.Limits
    missing: tuple[str, ...]


def goods_of(settings: Settings, local: Collection[LocalService], adapters: Collection[str], *, expiry: int) -> Goods:
    """What the configuration offers of the services that nodo holds, brought in and out by those adapters; `expiry` is the market's end."""
    offered: dict[bytes, Offered] = {}
    terms: dict[bytes, policy.Terms] = {}
    missing: list[str] = []
    for service in settings.offered:
        found = list(_named(service, local))
        if len(found) != 1:
            missing.append(_not_one(service, found, local))
        elif service.adapter not in adapters:
            missing.append(f"{found[0].name}: adapter {service.adapter!r} is there after a restart")
        else:
            key = found[0].service_hash
            offered[key] = Offered(found[0].name, service.slot or 0, service.path, service)
            terms[key] = _terms(settings, service)
    return Goods(offered, _rules(settings, terms, expiry), tuple(missing))


def _rules(settings: Settings, terms: Mapping[bytes, policy.Terms], expiry: int) -> policy.Limits:
    rules = settings.policy
    return policy.Limits(
        min_profit=rules.min_profit,
        max_open=rules.max_open_tasks,
        claim_margin=settings.margins.claim_margin,
        release_margin=settings.margins.release_margin,
        tx_fee=settings.wallet.fee,
        services=terms,
        assets=settings.asset_names,
        holdback=rules.holdback_by_standing,
        expiry=expiry,
        min_client=rules.min_client_standing,
    )


def _named(service: Template, local: Collection[LocalService]) -> Iterator[LocalService]:
    return (s for s in local if (service.hash or service.name) in (s.service_hash.hex(), s.name))


def _not_one(service: Template, found: Collection[LocalService], local: Collection[LocalService]) -> str:
    names = ", ".join(f"{s.name} ({s.service_hash.hex()[:12]}…)" for s in local) or "nothing"
    return f"{service.hash or service.name} names {len(found)} services of nodo's registry, which holds {names}"


def _terms(settings: Settings, service: Template) -> policy.Terms:
    return policy.Terms(
        prices_of(settings, service), math.ceil(service.expected_duration / SECONDS_PER_BLOCK[settings.chain.network])
    )


def prices_of(settings: Settings, service: Template) -> dict[bytes | None, int]:
    """The least payment for a service by asset: its own prices, else those of the policy; ConfigError for a unit that is not known."""
    asked = settings.policy.min_payment if service.min_payment is None else service.min_payment
    try:
        return settings.prices(asked, f"min_payment of {service.name or service.hash}")
    except ValueError as error:
        raise ConfigError(str(error)) from None


class Stock(Service):
    """The one that changes what the engine offers."""

    name = "stock"
    commands = frozenset()

    def __init__(self, engine: Engine, settings: Settings, registry: Registry, adapters: Collection[str]) -> None:
        super().__init__(engine)
        self._settings = settings
        self._registry = registry
        self._adapters = adapters
        self._local = registry.services()
        self._missing: tuple[str, ...] = ()

    async def step(self) -> None:
        """DependencyError, which the status shows, as long as something that is configured cannot be offered."""
        local = self._registry.services()
        if local != self._local:
            self._take(self._settings, local)
        if self._missing:
            raise DependencyError(f"not offered: {'; '.join(self._missing)}")

    def reload(self, read: Callable[[], Settings]) -> None:
        """Take over what `read` says now; when it cannot be read, all stays as it is and the status says why."""
        health = self.engine.health
        try:
            self._take(read(), self._registry.services())
        except AihdError as error:
            health[RELOAD] = f"the configuration was not taken: {one_line(error)}"
            log.error("not reloaded", error=one_line(error))
            return
        health.pop(RELOAD, None)
        log.info("reloaded", services=sorted(offered.name for offered in self.engine.services.values()))
        self.engine.pulse.beat()

    def _take(self, settings: Settings, local: tuple[LocalService, ...]) -> None:
        expiry = self.engine.view.deployment.expiry
        goods = goods_of(settings, local, self._adapters, expiry=expiry)
        for missing in set(goods.missing) - set(self._missing):
            log.warning("not offered", reason=missing)
        # Tasks that are at work go on with what they were taken by, so nothing is forgotten here.
        self.engine.services.update(goods.offered)
        self.engine.policy = goods.rules
        self.engine.view.relist()  # what the rules of before could never take was not kept
        self._settings, self._local, self._missing = settings, local, goods.missing
