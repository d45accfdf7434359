"""How a client reaches gateways: credentials, and the service config that says what is tried again, when, and where."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any

import grpc

from ranking.errors import InvalidField
from services.client import check
from services.client.throttle import Throttle, Throttling
from services.rpc.ports import is_loopback

RANKING = "longtail.ranking.v1.RankingService"
FEEDBACK = "longtail.feedback.v1.FeedbackService"
ONLINE = "longtail.features.v1.OnlineFeatureService"
SERVICES = (RANKING, FEEDBACK, ONLINE)
_MAX_ANSWER_BYTES = 32 * 1024 * 1024  # more than the largest answer
_LONGEST_S = 86_400.0  # gRPC counts nanoseconds since 1970 in 64 bits: a deadline in the year 2300 is one that has passed
_TOKEN = re.compile(r"[!-~]+")
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),  # a gateway that restarts is found again within a second instead of after gRPC's default
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM bytes.

    Attributes:
        authority: whose certificates gateways have; None: those the machine trusts.
        certificate: the client's own, for mutual TLS, with its `key`.
        key: of that certificate.

    Raises:
        InvalidField: one is no bytes, or empty, or certificate and key are not given together: gRPC ends the whole process over it.
    """

    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    def __post_init__(self) -> None:
        for name in ("authority", "certificate", "key"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, bytes) and given):
                raise InvalidField(f"tls.{name}", f"must be the bytes of a PEM file, got {type(given).__name__} of length {_length(given)}")
        if (self.certificate is None) != (self.key is None):
            raise InvalidField("tls.key" if self.key is None else "tls.certificate", "certificate and key go together")


def _length(given: object) -> str:
    return str(len(given)) if isinstance(given, Sized) else "none"


def service_config(service: str) -> dict[str, Any]:
    """What is recommended for one service.

    Only UNAVAILABLE is tried again: the call never ran, or may run twice without harm. RESOURCE_EXHAUSTED says when to come back, and to do
    so at once is what keeps an overloaded gateway overloaded; DEADLINE_EXCEEDED leaves no time. While more than a tenth of the calls fail
    none is repeated. Gateways that say NOT_SERVING of the service get none of its calls.

    Args:
        service: full name.
    """
    patient = service == FEEDBACK  # recording waits for a gateway or an event log to come back; a page of results does not
    return {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
        "methodConfig": [
            {
                "name": [{"service": service}],
                "retryPolicy": {
                    "maxAttempts": 5 if patient else 3,  # 5 is the most gRPC allows
                    "initialBackoff": "0.2s" if patient else "0.05s",
                    "maxBackoff": "2s" if patient else "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }


def options(service: str) -> list[tuple[str, str | int]]:
    """Of a channel for one service."""
    return [*_OPTIONS, ("grpc.service_config", json.dumps(service_config(service)))]


def credentials(tls: Tls | None) -> grpc.ChannelCredentials | None:
    """gRPC's; None: plain text.

    Raises:
        InvalidField: it is something else than `Tls`.
    """
    if tls is not None:
        check.typed("tls", tls, Tls)
    return None if tls is None else grpc.ssl_channel_credentials(tls.authority, tls.key, tls.certificate)


def metadata(address: str, tls: Tls | None, token: str) -> tuple[tuple[str, str], ...]:
    """What is sent with every call.

    Raises:
        InvalidField: the token would cross the network in plain text, or no metadata can carry it; or the address is no text.
    """
    check.text("address", address)
    if token == "":
        return ()
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):  # what it is instead is not shown: most of it may be the secret
        raise InvalidField("token", "must be printable ASCII without blanks or line ends, such as a file's last line brings")
    if tls is None and not is_loopback(address):
        raise InvalidField("token", f"would be sent to {address!r} in plain text; give tls, too")
    return (("authorization", f"Bearer {token}"),)


def throttles(rules: Throttling | None) -> Mapping[str, Throttle | None]:
    """One for each service, as gateways have a limit for each: one that has no room for lists may have room for events.

    Raises:
        InvalidField: they are something else than `Throttling`.
    """
    if rules is not None:
        check.typed("throttling", rules, Throttling)
    return {service: None if rules is None else Throttle(rules) for service in SERVICES}


def refused_here(throttles: Mapping[str, Throttle | None]) -> dict[str, int]:
    """Calls held back so far, by service."""
    return {service: 0 if one is None else one.refused_here for service, one in throttles.items()}


def seconds(timeout_s: float) -> float:
    """A deadline that is one.

    Raises:
        InvalidField: it is none: a call nobody stops waiting for keeps its place at the gateway.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= _LONGEST_S:
        raise InvalidField("timeout_s", f"must be a number greater than 0 and at most {_LONGEST_S:g}, got {check.shown(timeout_s)}")
    return float(timeout_s)
