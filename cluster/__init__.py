"""What every process of Treadle shares: words, state and control. Owns no work."""
