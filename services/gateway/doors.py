"""How the gateway's port is guarded: how many calls, of whom, with which credentials. From settings to `Options`.

The gateway serves nothing that needs the scope `admin`: what changes the platform is on other ports, of other processes.
"""

from __future__ import annotations

import time
from pathlib import Path

from grpc_reflection.v1alpha import reflection

from services.feedback.servicer import NAME as FEEDBACK
from services.gateway.servicer import NAME as RANKING
from services.gateway.settings import Settings
from services.online.servicer import NAME as ONLINE
from services.rpc import quotas, tls
from services.rpc.overload import Bounds
from services.rpc.ports import is_loopback
from services.rpc.quotas import Quotas
from services.rpc.server import Options
from services.rpc.settings import InvalidSettingError, variable
from services.rpc.tokens import Scope, Tokens

SCOPES = {RANKING: Scope.RANK, ONLINE: Scope.RANK, FEEDBACK: Scope.FEEDBACK, reflection.SERVICE_NAME: Scope.RANK}
"""What a token needs, by service."""

MOST_BYTES = {  # more than a valid request can have: the rest would be parsed only to be refused, on the one event loop
    f"/{RANKING}/Rank": 2**20,
    f"/{FEEDBACK}/RecordEvents": 4 * 2**20,
    f"/{ONLINE}/GetOnlineFeatures": 2**20,
}
"""By method; a batch of lists may be as large as the transport takes."""


def options(settings: Settings, tokens: Path) -> Options:
    """The guards of the port.

    Args:
        settings: all of it.
        tokens: file to take where the settings name none; may not be there.

    Raises:
        InvalidSettingError: naming the variable, or the file and its key.
    """
    known = Tokens(Path(settings.tokens) if settings.tokens else tokens)
    if settings.tokens and not known.required(time.monotonic()):
        raise InvalidSettingError(f"{variable('tokens')}: {settings.tokens!r} is not there; `longtail tokens create` makes it")
    proved = known.required(time.monotonic()) or settings.tls_client_ca
    if not is_loopback(settings.address) and not settings.insecure_beyond_loopback and not (settings.tls_cert and proved):
        lacking = [
            *([] if settings.tls_cert else [f"{variable('tls_cert')} and {variable('tls_key')}"]),
            *([] if proved else [f"tokens (`longtail tokens create`) or {variable('tls_client_ca')}"]),
        ]
        why = f"other machines can reach {settings.address!r}, which needs {', and '.join(lacking)}"
        raise InvalidSettingError(
            f"{variable('address')}: {why}; if it is meant to be open, set {variable('insecure_beyond_loopback')}=true"
        )
    return Options(
        reuse_port=settings.reuse_port,
        bounds=Bounds(
            most=settings.max_concurrent_rpcs,
            least=settings.min_concurrent_rpcs,
            queue=settings.queue_calls,
            wait_s=settings.queue_ms / 1e3,
            target_s=settings.loop_wait_ms / 1e3,
        ),
        adaptive=(RANKING,),
        default_s=settings.budget_ms / 1e3,
        quotas=_quotas(settings),
        tokens=known,
        scopes=SCOPES,
        most_bytes=MOST_BYTES,
        tls=tls.named(settings, "tls"),
        watchers=settings.max_watchers,
        drain_s=settings.drain_s,
        grace_s=settings.grace_s,
    )


def _quotas(settings: Settings) -> Quotas | None:
    if not settings.caller_limits:
        return None
    plan = quotas.read(Path(settings.caller_limits))
    return Quotas(plan, processes=settings.caller_limits_split, clock=time.monotonic, wall=time.time)
