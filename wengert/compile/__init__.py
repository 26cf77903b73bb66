"""Floor 5: programs recorded once, rewritten, planned and compiled."""
