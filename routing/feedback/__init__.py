"""What users say of turns, without who they are."""
