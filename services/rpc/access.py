"""Who may call what: from a call's credentials to its caller's name, or UNAUTHENTICATED, or PERMISSION_DENIED with the scope it lacks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import grpc

from ranking.errors import Forbidden, Unauthenticated
from services.rpc import callers
from services.rpc.tokens import Scope, Tokens

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
_HEADER = "authorization"
_SCHEME = "bearer "


class Access:
    """The door of one port. Health is not asked about."""

    def __init__(self, tokens: Tokens | None, scopes: Mapping[str, Scope]) -> None:
        """Nothing is read yet.

        Args:
            tokens: None: none is ever asked for; a certificate, where the port wants one, is enough.
            scopes: what a token needs, by `/service/method` or by `service`; `admin` for whatever is not there.
        """
        self._tokens = tokens
        self._scopes = scopes

    def scope(self, method: str) -> Scope:
        """What a token needs for `/service/method`."""
        service = method.split("/")[1]
        return self._scopes.get(method) or self._scopes.get(service) or Scope.ADMIN

    def caller(self, method: str, context: Context) -> str:
        """The caller's name: its token's, else what `callers.named` says; empty where it has none.

        Args:
            method: `/service/method`.
            context: of the call.

        Raises:
            Unauthenticated: a token is needed, and there is none that counts.
            Forbidden: the token is not good for this method.
        """
        if self._tokens is None or not self._tokens.required(time.monotonic()):
            return callers.named(context)
        token = self._tokens.find(_bearer(context), datetime.now(UTC))
        needed = self.scope(method)
        if needed not in token.scopes:
            have = ", ".join(sorted(token.scopes)) or "none"
            raise Forbidden(f"{method[1:]} needs a token with the scope {needed.value!r}; that of {token.name!r} has: {have}", needed.value)
        return token.name


def _bearer(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == _HEADER:
            if isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
                return value[len(_SCHEME) :].strip()
            raise Unauthenticated("the metadata `authorization` must be `Bearer` and a token")
    raise Unauthenticated("this gateway asks for a token: send it as metadata, `authorization: Bearer …`")
