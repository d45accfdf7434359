"""The imbalance toolbox: resamplers, generators, losses and prior corrections, each chosen by name. Knows no search and no model."""
