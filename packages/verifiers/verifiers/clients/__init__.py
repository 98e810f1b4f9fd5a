"""Clients: how models are asked, one module for each API. The classes load when first used."""

from typing import Any


def __getattr__(name: str) -> Any:
    from verifiers.clients.resolve import CLIENT_TYPES, as_client, client_class

    if name == "Client":
        from verifiers.clients.client import Client

        return Client
    if name == "as_client":
        return as_client
    for client_type, class_name in CLIENT_TYPES.items():
        if name == class_name:
            return client_class(client_type)
    raise AttributeError(f"module 'verifiers.clients' has no attribute {name!r}")
