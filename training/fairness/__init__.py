"""How fair rankers compare: on real lists, in simulations, and in time."""
