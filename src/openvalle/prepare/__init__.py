"""From a folder or manifest of audio and text to aligned, tokenised shards, in steps that can be rerun."""
