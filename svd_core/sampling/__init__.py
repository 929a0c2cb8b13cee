"""From noise to latents: the model as a callable, sigma lists, guidance curves and ODE solvers.

Knows no networks and no files.
"""
