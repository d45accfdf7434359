"""Server plumbing every process shares: error table, health, reflection, limits, graceful stop. Knows nothing of ranking's rules."""
