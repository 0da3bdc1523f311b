"""What a service tells Prometheus about itself."""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Of one application; several in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at: dict[str, Any] = {"registry": self.registry}
        self.requests = Histogram(
            "pyhash_request_duration_seconds", "Time of requests.", ["route", "status"], buckets=_SECONDS, **at
        )
        self.decode = Histogram("pyhash_decode_seconds", "Time to take images out of requests.", buckets=_SECONDS, **at)
        self.encode = Histogram(
            "pyhash_encode_seconds", "Time to decode and encode a batch of images.", buckets=_SECONDS, **at
        )
        self.search = Histogram(
            "pyhash_search_seconds", "Time to search for a batch of queries.", buckets=_SECONDS, **at
        )
        self.batch = Histogram("pyhash_batch_size", "Queries answered together.", ["stage"], buckets=_SIZES, **at)
        self.waiting = Gauge("pyhash_queue_depth", "Queries that wait.", ["stage"], multiprocess_mode="livesum", **at)
        self.codes = Gauge("pyhash_codes", "Codes that are searched.", multiprocess_mode="max", **at)
        self.n_bytes = Gauge("pyhash_index_bytes", "Bytes of these codes.", multiprocess_mode="max", **at)
        self.encoder = Gauge(
            "pyhash_encoder_info", "The encoder.", ["name", "fingerprint"], multiprocess_mode="max", **at
        )
        self.rejected = Counter("pyhash_rejected_total", "Requests that were refused.", ["status"], **at)

    def text(self) -> bytes:
        """Return them all as Prometheus reads them; of all workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
