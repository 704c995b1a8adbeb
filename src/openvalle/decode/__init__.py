"""Speaking with the language models: sampling, the autoregressive loop, and the greedy passes after it."""
