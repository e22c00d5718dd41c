"""The status document as Prometheus metrics: one source, so that page, command and metrics never differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class StatusCollector(Collector):
    """Reads the document anew for each scrape. Amounts are nanoERG."""

    def __init__(self, document: Callable[[], Mapping[str, Any]]) -> None:
        self._document = document

    def collect(self) -> Iterator[Metric]:
        document = self._document()
        yield GaugeMetricFamily("aihd_height", "Height of the newest block", value=document["service"]["height"] or 0)
        yield GaugeMetricFamily("aihd_issues", "Issues that the status names", value=len(document["issues"]))
        wallet = GaugeMetricFamily("aihd_wallet_nanoerg", "What the wallet holds, by kind", labels=["kind"])
        for kind in ("confirmed", "reserved", "owed", "bond", "committed"):
            wallet.add_metric([kind], document["wallet"].get(kind, 0))
        yield wallet
        tasks = GaugeMetricFamily("aihd_tasks", "Tasks by state", labels=["state"])
        for state, count in document["tasks"]["states"].items():
            tasks.add_metric([state], count)
        yield tasks
        declined = GaugeMetricFamily("aihd_declined", "Declined tasks by reason", labels=["code"])
        for code, decline in document["tasks"]["declined"].items():
            declined.add_metric([code], decline["count"])
        yield declined
        lies = CounterMetricFamily(
            "aihd_source_lies", "Answers that could not be true, by server", labels=["kind", "url"]
        )
        for source in document["sources"]:
            lies.add_metric([source["kind"], source["url"]], source["lies"])
        yield lies
        balance = GaugeMetricFamily("aihd_nodo_balance", "What our client id has at nodo, in its unit", labels=["unit"])
        runs = GaugeMetricFamily("aihd_nodo_runs", "Runs of the dearest offered service that it is good for", labels=[])
        if nodo := document["nodo"]:
            balance.add_metric([nodo["unit"]], nodo["balance"])
            runs.add_metric([], nodo["runs"])
        yield from (balance, runs)
