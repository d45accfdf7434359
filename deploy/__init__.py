"""From a release directory to running models: the release store, Triton, and the controller that keeps them in step."""
