"""Exposure and spending that all gateways share: what one of them holds in memory, and the stores behind it."""
