"""Recipes -> trained networks and models: one loop (`loop`) for all that is trained."""
