"""What all stores share: how SQLite and Redis are reached, and that their failures are `Unavailable`. Knows no table and no key."""
