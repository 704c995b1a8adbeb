"""From a trained model and some speech of a voice to a model that speaks like it, in one command."""
