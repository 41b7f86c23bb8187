"""Loops, hooks and optimisers of mmengine's Runner."""
