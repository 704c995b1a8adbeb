"""Models that judge speech: forced alignment, recognition, speaker similarity, quality."""
