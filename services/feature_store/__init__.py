"""The online feature store as the processes see it: the port, and Feast behind it."""
