"""The feature process: keeps the item snapshot that the gateways of this machine read, and turns events into fresh rows."""
