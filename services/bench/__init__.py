"""What measures the services from outside, each beside a yardstick: ranking, events, pushes, reads, the snapshot."""
