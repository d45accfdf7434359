"""`ReleaseService`: the release side of the platform over gRPC, served by the controller on a port and with credentials of its own."""
