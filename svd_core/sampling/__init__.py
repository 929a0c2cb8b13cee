"""From noise to latents: sigma lists, guidance curves and ODE solvers for a model that is a callable."""
