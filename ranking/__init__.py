"""The pure core: what training and serving both need. numpy and the standard library only; no I/O, no clock, no hidden randomness."""
