"""How one trial trains: torch and numpy only, so it also runs alone on any machine with a GPU."""
