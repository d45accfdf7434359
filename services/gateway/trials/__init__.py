"""What becomes of requests that meet a release on trial: both arms written down, shadows ranked and compared."""
