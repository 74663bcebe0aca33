"""Miners' containers: a stranger's model behind HTTP, spoken to within bounds."""
