"""The local Triton server: its files, its process, its model repository and the client that talks to it."""
