"""Both language models over one transformer: configuration, layers, AR, NAR, batches and the model on disk."""
