"""What measures the gateway from outside: a load client, a bare echo server as its yardstick, and the `rank` benchmark."""
