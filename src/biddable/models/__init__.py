"""The models' room: load one, choose what trains in it, its loss, and generation from it."""
