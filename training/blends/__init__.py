"""From members to one calibrated probability: fitting calibrators and blends, the ensemble of one configuration."""
